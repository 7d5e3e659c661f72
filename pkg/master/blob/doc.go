// Package blob keeps what workers ask their master to keep: named pieces of
// sealed memory that outlive the worker that made them. The next version, or a
// replacement after a crash, is handed the same memory; nobody copies it, and
// nobody can change it.
//
// A [Room] owns the descriptors. It belongs to one goroutine, which is the
// master's loop. What it holds is a list of (name, size, descriptor) that can
// be handed to another process whole.
//
// [Store] and [Load] carry those that asked for it across a stop of the
// service, in files that are checked when they are read.
package blob
