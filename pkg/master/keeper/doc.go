// Package keeper is the process that holds what must not die with the master.
//
// It is this same program, run once more in a session of its own, and it does
// next to nothing: it holds descriptors by name and gives them to whoever is
// master. The master joins it through a socket in the runtime directory, gets
// all that is held, and from then on says what to put and what to drop.
//
//	master                                          keeper
//	  join [version] ─────────────────────────────────▶  the newest is the master;
//	                                                     the one before is told "replaced"
//	  ◀──────────────────────────────── held name meta fd, for each
//	  ◀──────────────────────────────── all [version]
//	  put name meta fd, drop name ────────────────────▶  no answer …
//	  ◀──────────────────────────────── not kept name why, … unless it could not
//	  guard fds, unguard ─────────────────────────────▶
//	  ◀──────────────────────────────── answer why, empty: done
//	  end ────────────────────────────────────────────▶  closes everything, exits
//
// A message is one packet of a SOCK_SEQPACKET socket, so a master that is killed
// has sent each of its messages whole or not at all, and the kernel keeps those
// that it has sent. Messages of a kind that is not known are ignored: a keeper
// outlives upgrades of its master, in both directions.
//
// The keeper knows of names, a few bytes for each and descriptors, and of nothing else. It
// has no timers but those of a guard: the less it does, the less can end it. If it dies, the
// master starts another one, and its [Registry] gives that everything again.
//
// After an upgrade the keeper guards the new master: for a minute, or until that one says
// that it is well, it has the program of the one before, and starts it again if the new
// master dies or does not join in time (guard_linux.go).
//
// The lock of the service decides who is master. The keeper believes the newest.
// TERM ends a keeper that has no master, and means nothing to one that has.
package keeper
