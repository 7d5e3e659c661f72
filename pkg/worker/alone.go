package worker

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
)

// openAlone opens the sockets of a worker without a master: those that systemd
// passed, else its own.
func (l *life) openAlone() error {
	passed, err := l.w.env.match(l.w.listeners, l.log.Warn)
	if err != nil {
		return err
	}
	defer func() {
		for _, s := range passed { // after a failure; else all are in use
			s.Close()
		}
	}()
	port := l.w.env.port
	if l.w.withoutAddress() > 1 {
		port = "" // it can be only one's
	}
	for _, d := range l.doors {
		s := passed[d.name]
		delete(passed, d.name)
		if s == nil {
			if s, err = d.bind(port); err != nil {
				return err
			}
		}
		if err := d.add(s, false); err != nil {
			return err
		}
		l.log.Info("worker: serving", "listener", d.name, "address", s.Addr().String())
	}
	return nil
}

func (w *Worker) withoutAddress() (n int) {
	for _, l := range w.listeners {
		if l.address == "" {
			n++
		}
	}
	return n
}

// match finds each listener's socket among those that systemd passed: by name,
// or the only socket for the only listener. The rest is closed, and said.
func (e *environment) match(ls []*listener, warn func(string, ...any)) (map[string]socket, error) {
	found := make(map[string]socket)
	sockets := e.sockets
	e.sockets = nil
	var failed error
	for _, p := range sockets {
		name := ""
		for _, l := range ls {
			if l.name == p.name && found[l.name] == nil {
				name = l.name
			}
		}
		if name == "" && len(sockets) == 1 && len(ls) == 1 {
			name = ls[0].name
		}
		if name == "" {
			syscall.Close(p.fd)
			warn("worker: a socket that systemd passed is not used, no listener has its name (FileDescriptorName=)", "descriptor", p.fd, "name", p.name)
			continue
		}
		s, err := socketOf(p.fd, name)
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

// bind opens the listener's own address.
func (l *listener) bind(port string) (socket, error) {
	network, address := "tcp", l.address
	switch {
	case strings.HasPrefix(address, "unix://"):
		network, address = "unix", strings.TrimPrefix(address, "unix://")
		removeStale(address)
	case strings.HasPrefix(address, "tcp://"):
		address = strings.TrimPrefix(address, "tcp://")
	case address == "" && port != "":
		address = ":" + port
	case address == "":
		return nil, fmt.Errorf("listener %q has no address: run it under masterd, pass worker.Address to Handle, or set %s", l.name, envPort)
	}
	ln, err := net.Listen(network, address)
	if err != nil {
		return nil, fmt.Errorf("listener %q: %w", l.name, err)
	}
	return ln.(socket), nil // of TCP or Unix, which both are
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
