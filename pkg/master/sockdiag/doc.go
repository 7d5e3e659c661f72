// Package sockdiag asks the kernel for its TCP sockets, for handshakes under way and for
// the queues of listening sockets (sock_diag(7)), without any privilege. Its functions keep
// nothing and may be called from any goroutine. An answer is as long as the machine has
// sockets that are meant, so a caller asks for a port or a state, and not in the loop.
package sockdiag

import "net/netip"

// TCP states, as sock_diag and TCP_INFO number them.
const (
	Established   = 1
	SynReceived   = 3
	FinWait1      = 4
	TimeWait      = 6
	CloseWait     = 8
	LastAck       = 9
	Listen        = 10
	BoundInactive = 13 // bound, not listening; since Linux 6.8
)

// Flow is one connection, or one that is being made.
type Flow struct{ Local, Remote netip.AddrPort }
