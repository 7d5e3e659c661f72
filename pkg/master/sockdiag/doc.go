// Package sockdiag asks the kernel for its TCP sockets (sock_diag(7)), without
// any privilege.
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
