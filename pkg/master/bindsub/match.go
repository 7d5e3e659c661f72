package bindsub

import (
	"fmt"
	"net/netip"
	"strings"
)

// call is one bind of a TCP socket.
type call struct {
	at    netip.AddrPort
	six   bool // the socket is of AF_INET6
	dual  bool // and takes IPv4 too
	reuse bool // it has SO_REUSEPORT
	// options are what a slot takes over of what the program has set; noOption: it has none such
	options []int
}

// match says which listener a bind asks for. A program may ask for
//
//   - exactly the listener's address;
//   - all addresses (0.0.0.0, or ::), where the listener has fewer or as many: the
//     configuration decides how many it gets;
//
// and it is refused, as an address in use, with the reason, where it asks for one
// address and the listener has all: it would be reached from more than it means
// to. It is refused too where one socket would have to be two listeners. What
// else there is on the port cannot get in the way, and passes: both are empty.
func (c call) match(all []Listener) (listener, refusal string) {
	if c.at.Port() == 0 {
		return "", ""
	}
	var covered []Listener
	for _, l := range all {
		if l.At.Port() != c.at.Port() {
			continue
		}
		switch ours := l.At.Addr(); {
		case ours == c.at.Addr() && !c.dual:
			return l.Name, ""
		case c.covers(l):
			covered = append(covered, l)
		case ours.IsUnspecified() && (l.Dual || ours.Is4() == c.at.Addr().Is4()):
			return "", fmt.Sprintf("it binds %s, and listener %s is %s, by which it would be reached from more than it asks "+
				"for; configure tcp://%s, or have it bind all addresses", c.at, l.Name, show(l), c.at)
		}
	}
	switch len(covered) {
	case 0:
		return "", ""
	case 1:
		return covered[0].Name, ""
	}
	names := make([]string, len(covered))
	for i, l := range covered {
		names[i] = l.Name
	}
	return "", fmt.Sprintf("it binds %s by one socket, and the listeners %s are on that port, each with a socket of "+
		"its own; configure one listener for the port, or have it bind each address", c.shown(), strings.Join(names, " and "))
}

// covers: the program asks for all addresses, and the listener is some of them.
func (c call) covers(l Listener) bool {
	if !c.at.Addr().IsUnspecified() {
		return false
	}
	return c.dual || l.Dual || l.At.Addr().Is4() == c.at.Addr().Is4()
}

func (c call) shown() string {
	if c.at.Addr().IsUnspecified() {
		return fmt.Sprintf("all addresses on port %d", c.at.Port())
	}
	return c.at.String()
}

// show is a listener's address as the configuration would say it.
func show(l Listener) string {
	if l.Dual {
		return fmt.Sprintf("tcp://:%d", l.At.Port())
	}
	return "tcp://" + l.At.String()
}

// waits says what is still to come, and what came instead.
func waits(missing []Listener, elsewhere []string) string {
	parts := make([]string, len(missing))
	for i, l := range missing {
		parts[i] = fmt.Sprintf("%s (listener %s)", show(l), l.Name)
	}
	text := "it has not bound " + strings.Join(parts, " and ")
	if len(elsewhere) > 0 {
		text += "; it listens on " + strings.Join(elsewhere, ", ") + " instead"
	}
	return text
}

// refuseRival is what a program is told whose side port the other version has.
func (c call) refuseRival(rival string) string {
	return fmt.Sprintf("it binds %s, which %s has: two versions run at once, so this port must be a listener too; %s",
		c.shown(), rival, c.asListener())
}

// With says who has the port too, and what to do about it.
func (s Sharing) With(rival string) string {
	c := call{at: s.At, dual: s.Dual}
	return fmt.Sprintf("it binds %s with SO_REUSEPORT, which %s has too: while both versions run, either of them "+
		"answers there; %s", c.shown(), rival, c.asListener())
}

// asListener says how the port becomes one. Its socket is the running version's, and cannot
// be had from that.
func (c call) asListener() string {
	address := "tcp://" + c.at.String()
	if c.dual {
		address = fmt.Sprintf("tcp://:%d", c.at.Port())
	}
	return fmt.Sprintf("add to listeners: {name: side-%d, address: %q}, and restart the service once, as the running "+
		"version has the port (systemctl restart UNIT, or masterd stop and start it again)", c.at.Port(), address)
}
