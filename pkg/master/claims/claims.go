package claims

import (
	"fmt"
	"net/netip"
	"strings"
)

// Restart is what to type where only a restart helps.
const Restart = "systemctl restart UNIT, or masterd stop and start it again"

// Claims are what the processes of one worker have.
type Claims struct {
	Ports    []netip.AddrPort // that they listen on
	Sockets  []string         // paths of Unix sockets that they have bound
	PIDFiles []string
}

// Port is how the configuration names a port, and Name what a listener there can be called.
func Port(at netip.AddrPort) string {
	if at.Addr() == netip.IPv6Unspecified() {
		return fmt.Sprintf("tcp://:%d", at.Port())
	}
	return "tcp://" + at.String()
}

// Name is what a listener on a port can be called.
func Name(at netip.AddrPort) string { return fmt.Sprintf("side-%d", at.Port()) }

// Paths are those of what has one.
func (c Claims) Paths() []string { return append(append([]string(nil), c.Sockets...), c.PIDFiles...) }

// Say says in a sentence what a worker has and what to do about it; empty: it has nothing.
// binds tells that it binds its listeners by itself, so that a listener more is all it needs.
func (c Claims) Say(worker uint64, binds bool) string {
	var has, todo, listeners []string
	for _, at := range c.Ports {
		has = append(has, "listens on "+Port(at))
		listeners = append(listeners, fmt.Sprintf("{name: %s, address: %q}", Name(at), Port(at)))
	}
	if len(listeners) > 0 {
		advice := "add to listeners: " + strings.Join(listeners, ", ")
		if !binds {
			advice += ", and have the program take them from masterd"
		}
		todo = append(todo, advice+"; that needs a restart, once ("+Restart+")")
	}
	for _, path := range c.Sockets {
		has = append(has, "has bound "+path)
	}
	for _, path := range c.PIDFiles {
		has = append(has, "has written "+path)
	}
	if len(c.Sockets) > 0 {
		todo = append(todo, "name the socket by the worker ({worker} in its arguments), or leave it out")
	}
	if len(c.PIDFiles) > 0 {
		todo = append(todo, "leave the PID file out, masterd needs none, or name it by the worker ({worker})")
	}
	if len(has) == 0 {
		return ""
	}
	return fmt.Sprintf("Worker %d %s beside its listeners. Two versions run at once in a reload, and there is one of "+
		"each: %s.", worker, strings.Join(has, " and "), strings.Join(todo, "; "))
}
