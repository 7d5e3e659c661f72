package control

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/masterd/masterd/pkg/worker/internal/serve"
)

// listenStandalone opens the sockets of a worker without a master: those that systemd
// passed, else its own.
func (l *lifecycle) listenStandalone() error {
	passed, err := l.env.matchSockets(l.Listeners, l.log.Warn)
	if err != nil {
		return err
	}
	defer func() {
		for _, s := range passed { // after a failure; else all are in use
			s.Close()
		}
	}()
	port := l.env.port
	without := 0
	for _, ln := range l.Listeners {
		if ln.Address == "" {
			without++
		}
	}
	if without > 1 {
		port = "" // it can be only one's
	}
	for _, d := range l.listeners {
		s := passed[d.Name]
		delete(passed, d.Name)
		if s == nil {
			if s, err = bind(d.Config, port); err != nil {
				return err
			}
		}
		if err := d.Add(s, false); err != nil {
			return err
		}
		l.log.Info("worker: serving", "listener", d.Name, "address", s.Addr().String())
	}
	return nil
}

// matchSockets finds each listener's socket among those that systemd passed: by name,
// or the only socket for the only listener. The rest is closed, and logged.
func (e *environment) matchSockets(ls []*serve.Config, warn func(string, ...any)) (map[string]serve.Socket, error) {
	found := make(map[string]serve.Socket)
	sockets := e.sockets
	e.sockets = nil
	var failed error
	for _, p := range sockets {
		name := ""
		for _, l := range ls {
			if l.Name == p.name && found[l.Name] == nil {
				name = l.Name
			}
		}
		if name == "" && len(sockets) == 1 && len(ls) == 1 {
			name = ls[0].Name
		}
		if name == "" {
			syscall.Close(p.fd)
			warn("worker: a socket that systemd passed is not used, no listener has its name (FileDescriptorName=)",
				"descriptor", p.fd, "name", p.name)
			continue
		}
		s, err := serve.ListenerFromFD(p.fd, name)
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("socket activation: %w", err))
			continue
		}
		found[name] = s
	}
	if failed != nil {
		for _, s := range found {
			s.Close()
		}
		return nil, failed
	}
	return found, nil
}

// bind opens the listener's own address; port is for one that has none.
func bind(l *serve.Config, port string) (serve.Socket, error) {
	network, address := "tcp", l.Address
	switch {
	case strings.HasPrefix(address, "unix://"):
		network, address = "unix", strings.TrimPrefix(address, "unix://")
		removeStale(address)
	case strings.HasPrefix(address, "tcp://"):
		address = strings.TrimPrefix(address, "tcp://")
	case address == "" && port != "":
		address = ":" + port
	case address == "":
		return nil, fmt.Errorf("listener %q has no address: run it under masterd, pass worker.Address to Handle, or set %s",
			l.Name, envPort)
	}
	ln, err := net.Listen(network, address)
	if err != nil {
		return nil, fmt.Errorf("listener %q: %w", l.Name, err)
	}
	return ln.(serve.Socket), nil // of TCP or Unix, which both are
}

// removeStale removes a Unix socket that nobody listens on: what a process
// that was killed leaves behind. Whoever still listens keeps it, and bind says
// that the address is in use.
func removeStale(path string) {
	fi, err := os.Lstat(path)
	if err != nil || fi.Mode().Type() != os.ModeSocket {
		return
	}
	c, err := net.Dial("unix", path)
	if err == nil {
		c.Close()
		return
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		os.Remove(path)
	}
}
