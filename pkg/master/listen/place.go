package listen

import "net/netip"

// Place is where a slot of a listener is.
type Place struct {
	Name    string
	At      netip.AddrPort // of a TCP socket
	Path    string         // of a Unix socket: what it is bound to
	Dual    bool           // an IPv6 wildcard that takes IPv4 too
	Inode   uint64         // of the slot's socket
	Listens bool           // it was never shut down
	Queue   int            // connections that nobody has accepted yet; of a TCP socket
}

// Process is one that has a socket.
type Process struct {
	PID  int
	Name string // for people: "pid 123 (nginx -g daemon off;)"
}
