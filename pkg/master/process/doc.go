// Package process is what the kernel tells of processes: by /proc, and by descriptors
// that stand for one process (pidfds). A process is named by its number and its start
// time: a number alone is given to another one sooner or later.
//
// What prometheus/procfs has is used from there by the rooms. Here is what it has not (the
// exit status in stat, the numbers of descriptors), what is too slow there for a look at
// all processes, and what a hostile process can spoil there: it fails on a line of
// /proc/net/unix that it does not understand, and any user can make one.
package process
