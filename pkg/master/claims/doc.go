// Package claims finds what a worker has for itself beside its listeners: ports, Unix
// sockets and pid files. Of each of them there can be one, and two versions of a program
// run at once, so the second version cannot have it, or takes it from the first; and what
// the first removes when it ends is the second's by then.
//
// It is seen from outside, and so not all of it: of ports those that the kernel does not
// choose by itself, of files those that have the worker's process number in them and lie
// where such files do.
package claims

const (
	maxClaims = 16 // of one kind that are told of one worker
	// maxProcesses are looked at of one worker: its main one and those that it started first.
	maxProcesses = 1024
	maxPIDFile   = 64   // bytes of a file with a process's number
	maxDirs      = 256  // directories in which they are looked for
	maxNames     = 4096 // files of one of them
)
