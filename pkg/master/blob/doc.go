// Package blob keeps what workers ask their master to keep: named pieces of
// sealed memory that outlive the worker that made them. The next version, or a
// replacement after a crash, is handed the same memory; nobody copies it, and
// nobody can change it.
//
// A blob is a sealed memfd. So the master need neither trust nor copy it, two
// versions map the same pages, and replacing one is one assignment. The keeper
// holds the descriptors too, and the next master takes them over ([Set.Adopt]).
// A generation that was never active may only keep what nobody else has kept;
// ask.go has the rules.
//
// A [Set] owns the descriptors. It belongs to one goroutine, which is the
// master's loop. What it holds is a list of (name, size, descriptor) that can
// be handed to another process whole.
//
// [Store] and [Load] carry those that asked for it across a stop of the
// service, in files that are checked when they are read. The first change after
// a start removes the file of what has changed: after the death of master and
// keeper there is what was kept last or nothing, never something older.
package blob
