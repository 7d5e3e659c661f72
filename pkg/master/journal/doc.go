// Package journal is the master's log: its own lines, and its workers' passed
// through.
//
// Who writes a line never waits for where it goes. One goroutine writes; behind
// a terminal that was stopped or a disk that is full, lines wait in memory, the
// workers' give way first, and what could not be written to the file goes to
// standard error instead. What is lost all the same is counted and said.
package journal
