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
// The shim also takes away what the program must not inherit from the master, and by default
// that is everything: ambient and inheritable capabilities from all workers, the bounding set
// and new privileges from those that have a user of their own, and from root's workers all
// capabilities that neither their preset nor worker.capabilities names. A worker with fewer
// capabilities than the master cannot trace it either. What an operator configures to be run
// beside workers (hooks, checks, drain.command) runs as the master's user, without the
// capabilities that the master's unit hands on ([StartCommand]).
//
// A worker that forks without end must not take the master's threads: the Go runtime ends a
// process that needs a thread and cannot have one. The number of processes of a worker's user
// is limited below what limits the master (memory.Machine.ProcessesForUser). Root is bound by
// no such limit, so master and keeper make spare threads when they start ([Protect]), and
// have enough to answer, to roll back and to end a cgroup.
//
// A process is named by its pid and its start time ([Begun]) and held by a pidfd: a pid that
// the kernel has given again is nobody's worker. It is waited for by its own pid. Nothing
// here waits for "any child", so several masters, and other users of child processes, can
// share one process.
package proc
