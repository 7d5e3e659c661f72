package steer

import "golang.org/x/sys/unix"

// option is a socket option that accepted connections inherit, or that keeps
// connections from being accepted.
type option struct{ level, name int }

// options are those that a worker can change on its slot without privilege. A
// slot that changes hands has none of them left.
func options() []option {
	return []option{
		{unix.SOL_SOCKET, unix.SO_KEEPALIVE},
		{unix.SOL_SOCKET, unix.SO_OOBINLINE},
		{unix.SOL_SOCKET, unix.SO_RCVLOWAT},
		{unix.SOL_SOCKET, unix.SO_PRIORITY},
		{unix.SOL_SOCKET, unix.SO_INCOMING_CPU},
		{unix.IPPROTO_IP, unix.IP_TOS},
		{unix.IPPROTO_IP, unix.IP_TTL},
		{unix.IPPROTO_IPV6, unix.IPV6_TCLASS},
		{unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS},
		{unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT}, // holds connections back until data comes
		{unix.IPPROTO_TCP, unix.TCP_NODELAY},
		{unix.IPPROTO_TCP, unix.TCP_CORK},
		{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE},
		{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL},
		{unix.IPPROTO_TCP, unix.TCP_KEEPCNT},
		{unix.IPPROTO_TCP, unix.TCP_SYNCNT},
		{unix.IPPROTO_TCP, unix.TCP_LINGER2},
		{unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT},
		{unix.IPPROTO_TCP, unix.TCP_FASTOPEN},
		{unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT},
		{unix.IPPROTO_TCP, unix.TCP_SAVE_SYN},
	}
}

// Baseline is what the options of a new socket are.
type Baseline struct {
	ints       map[option]int
	rcv, snd   int // buffer sizes, bytes
	Segment    int // of TCP, bytes; the path's own
	congestion string
}

func TakeBaseline(fd int) Baseline {
	b := Baseline{ints: map[option]int{}}
	for _, o := range options() {
		if v, err := unix.GetsockoptInt(fd, o.level, o.name); err == nil { // IPv6 ones are not there on IPv4
			b.ints[o] = v
		}
	}
	b.rcv, _ = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF)
	b.snd, _ = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF)
	b.Segment, _ = unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_MAXSEG)
	b.congestion, _ = unix.GetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION)
	return b
}

// Restore puts back whatever differs, as far as it can: an option that cannot
// be set back is no reason to refuse the slot to its next worker.
func (b Baseline) Restore(fd int) {
	for o, want := range b.ints {
		if v, err := unix.GetsockoptInt(fd, o.level, o.name); err == nil && v != want {
			_ = unix.SetsockoptInt(fd, o.level, o.name, want)
		}
	}
	buffer := func(name, want int) {
		if v, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, name); err == nil && v != want {
			_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, name, want/2) // the kernel doubles it
		}
	}
	buffer(unix.SO_RCVBUF, b.rcv)
	buffer(unix.SO_SNDBUF, b.snd)
	if v, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BUF_LOCK); err == nil && v != 0 {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BUF_LOCK, 0) // else connections would not grow theirs
	}
	if v, err := unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_MAXSEG); err == nil && v != b.Segment {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_MAXSEG, 0) // the path's own
	}
	if v, err := unix.GetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION); err == nil && v != b.congestion {
		_ = unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION, b.congestion)
	}
	_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{})
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{})
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &unix.Timeval{})
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0) // a filter could drop every SYN
}

// FreshBaseline is that of a socket no worker has had.
func FreshBaseline(family int) (Baseline, error) {
	fd, err := Stream(family)
	if err != nil {
		return Baseline{}, err
	}
	defer unix.Close(fd)
	return TakeBaseline(fd), nil
}
