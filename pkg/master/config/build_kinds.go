package config

import (
	"fmt"
	"maps"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"time"
)

// leastWatchdog is the shortest that a program can be asked to feed.
const leastWatchdog = 100 * time.Millisecond

// othersOnly are the keys that a worker of this kind must not be given: they are for others.
func othersOnly(kind string) []string {
	switch kind {
	case KindSDK:
		return []string{"worker.ready", "worker.watchdog", "worker.fd_store", "worker.non_blocking", "drain.signal", "drain.command"}
	case KindUnmodified:
		return []string{"worker.non_blocking"}
	}
	return nil
}

// otherKinds checks what concerns workers that are not built on the worker package.
func (b *builder) otherKinds(c *Config) {
	w := &c.Worker
	if w.Kind == KindSDK {
		for _, path := range othersOnly(KindSDK) {
			if b.given(path) && !b.isDefault(path) {
				b.add(path, `is for workers of other kinds; one of kind "sdk" does this by the control protocol`)
			}
		}
	}
	if w.Watchdog > 0 && w.Watchdog < leastWatchdog {
		b.add("worker.watchdog", fmt.Sprintf("%s is too short; write 0 or at least %s", showDuration(w.Watchdog), showDuration(leastWatchdog)))
	}
	if len(c.Drain.Command) > 0 {
		c.Drain.Command[0] = b.program("drain.command", c.Drain.Command[0])
		if c.Drain.Signal != signalNone {
			b.add("drain.signal", "is given beside drain.command; a worker is asked in one way")
		}
	}
	if w.Kind == KindUnmodified {
		if b.given("worker.non_blocking") && !b.isDefault("worker.non_blocking") {
			b.add("worker.non_blocking", `is for kind "socket-activation"; one of kind "unmodified" makes its sockets itself`)
		}
		for i, l := range c.Listeners {
			if l.Network == "unix" {
				b.add(fmt.Sprintf("listeners[%d].address", i), `a worker of kind "unmodified" cannot be given a Unix socket; use tcp, or kind "socket-activation"`)
			}
			if l.Steering == "shared" {
				b.add(fmt.Sprintf("listeners[%d].steering", i), `a worker of kind "unmodified" cannot be asked to pause, as "shared" needs it; use "auto" or "kernel"`)
			}
		}
	}
	b.pathless(c)
	b.descriptors(c)
	b.require(&c.Rollout.Require, c.Listeners)
}

// isDefault tells whether a key was given, and as it is anyway.
func (b *builder) isDefault(path string) bool {
	k := b.schema.byPath[path]
	if k.merged() {
		return b.values.GetString(path) == k.Default
	}
	return b.emptyList(path)
}

// descriptors tries the places of descriptors' numbers.
func (b *builder) descriptors(c *Config) {
	if c.Worker.Kind != KindSocketActivation {
		return
	}
	var names []string
	for _, l := range c.Listeners {
		names = append(names, l.Name)
	}
	for _, word := range c.Worker.Command {
		if _, err := ExpandFDs(word, names); err != nil {
			b.add("worker.command", err.Error())
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Worker.Env)) {
		if _, err := ExpandFDs(c.Worker.Env[name], names); err != nil {
			b.add(joinPath("worker.env", name), err.Error())
		}
	}
}

// has tells whether connecting to an address reaches the listener on this machine.
func (l Listener) has(at string) bool {
	if l.Network == "unix" {
		return at == l.Path
	}
	host, port, err := net.SplitHostPort(at)
	if err != nil || port != strconv.Itoa(l.Port) {
		return false
	}
	any := l.Host == "" || l.Host == "0.0.0.0" || l.Host == "::"
	switch host {
	case l.Host:
		return true
	case "localhost": // either of the two
		return any || l.Host == "127.0.0.1" || l.Host == "::1"
	case "127.0.0.1":
		return any && l.Network != "tcp6"
	case "::1":
		return any && l.Network != "tcp4" && l.Host != "0.0.0.0"
	}
	return false
}

// require checks what must be well before a rollout.
func (b *builder) require(r *Require, own []Listener) {
	for _, at := range r.TCP {
		if i := slices.IndexFunc(own, func(l Listener) bool { return l.has(at) }); i >= 0 {
			b.add("rollout.require.tcp", fmt.Sprintf("%s is the service's own listener %s: masterd itself listens there, so connecting to it says nothing", short(at), own[i].Name))
			continue
		}
		if filepath.IsAbs(at) {
			continue
		}
		host, port, err := net.SplitHostPort(at)
		if n, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil || n == 0 || host == "" {
			b.add("rollout.require.tcp", fmt.Sprintf("%s is neither HOST:PORT nor the absolute path of a socket", short(at)))
		}
	}
	for _, at := range r.HTTP {
		if u, err := url.Parse(at); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			b.add("rollout.require.http", fmt.Sprintf("%s is no http:// or https:// address", short(at)))
		} else if u.User != nil {
			b.add("rollout.require.http", "names a user; passwords do not belong here, use a command")
		}
	}
}
