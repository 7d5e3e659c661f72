// Package logs takes workers' output and keeps its last lines.
//
// A worker's standard output and error are regular files that are only ever
// appended to, in the service's runtime directory (usually memory). A pipe
// would end with the master that reads it: the worker would die of SIGPIPE or
// hang in its next line. A write to a file can do neither. The master reads the
// files as they grow and gives back the space of what it has read, so that they
// stay small however long they get.
//
// Their length is that of all that was ever written, which is what a limit on
// file sizes would count.
//
// A worker has its file to write to, and with that could take all space of the file
// system that others are in, too, by means that are no output (see giveBackOutside). Of
// a tmpfs it is taken back within a moment, and who goes on is given up. In between
// others find it full: a limit of this, as a worker is quicker than whoever looks.
//
// While no master reads, the files do grow, at the workers' pace, up to what the
// file system has; a full one costs output, never a worker. Their names tell the
// next master whose they are.
//
// A program that opens /dev/stdout again with O_TRUNC (a shell's "> /dev/stderr")
// loses what of its output had not been read yet.
package logs
