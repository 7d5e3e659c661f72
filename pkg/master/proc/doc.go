// Package proc starts worker processes and notices their end.
//
// A worker is started through a shim: this same executable, run once more with
// a fixed argument, which takes the worker's limits, user and directory upon
// itself and then becomes the worker's program by exec. Only a process that
// already is the worker can know its own pid (LISTEN_PID), drop privileges and
// say in words why the program could not be run, before the master calls it
// started. The executable's main function, and TestMain of a test binary that
// starts workers, call [ShimMain] first.
//
// The order goes to the shim over a socket that is closed by the exec, never
// over its arguments or environment: those can be read by others in /proc.
//
// A process is waited for by its own pid. Nothing here waits for "any child",
// so several masters, and other users of child processes, can share one process.
package proc
