package listen

import "net/netip"

// Place is where a slot of a listener is.
type Place struct {
	Name  string
	At    netip.AddrPort // of a Unix socket it is not valid
	Dual  bool           // an IPv6 wildcard that takes IPv4 too
	Inode uint64         // of the slot's socket
}

// Process is one that has a socket.
type Process struct {
	PID  int
	Name string // for people: "pid 123 (nginx -g daemon off;)"
}
