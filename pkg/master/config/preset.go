package config

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

const (
	presetNone = "none"
	signalNone = "none"
)

// signalNames are those that may ask a worker for something.
func signalNames() []string { return []string{"TERM", "INT", "QUIT", "HUP", "USR1", "USR2", "WINCH"} }

// preset is what is known of a server.
type preset struct {
	name  string
	kind  string
	drain string // signal that has it finish
	stop  string // signal that has it end, also while it finishes
	surge string // how its versions follow each other; empty: all beside each other
	// nonBlocking: it takes sockets as they are, and must not wait in accept.
	nonBlocking bool
	// byAddress: it finds its sockets again by their own address (getsockname), which
	// of a Unix socket is the slot's hidden name and not the listener's path.
	byAddress bool
	// capabilities are what it needs of root's; empty: it runs others' programs, and they
	// are left what is commonly needed.
	capabilities string
	// foreground is what keeps it from going into the background; empty: it never does.
	foreground string
	// env tells it of its listeners where LISTEN_FDS would not; nil: it does.
	env func(ls []Listener) (name, value string)
}

// presets are those of the servers' own manuals:
//
//	gunicorn  TERM finishes and closes what is between two requests, if its workers keep any; takes LISTEN_FDS
//	uvicorn   TERM finishes and closes what is between two requests; takes --fd
//	node      ends at the first signal
//	nginx     QUIT finishes and closes what is between two requests; takes NGINX, as of an upgrade of its binary
//	caddy     TERM finishes and closes what is between two requests
//	puma      TERM finishes and closes what is between two requests; takes LISTEN_FDS
//	haproxy   USR1 finishes (and closes after an answer, if it is configured so), TERM is immediate; takes fd@N
//	php-fpm   QUIT finishes, TERM is quick; takes FPM_SOCKETS, as of a reload
//	apache    WINCH finishes and closes what is between two requests, TERM is immediate
//	lighttpd  INT finishes and closes what is between two requests, TERM is immediate
//	php       (php -S) INT finishes; closes after each answer anyway
//	tomcat    TERM finishes (unloadDelay of a Context, 2 s) and closes what is between two requests
//	redis     TERM writes its data to the disk (if it is to save them) and closes all connections;
//	          the next one reads them when it starts, so two cannot live at one time
//
// Those that close a connection only after an answer have a drain signal here, which they
// get at once. The others close what is between two requests, on clients that may be about to
// send the next one: for them drain is "none", so the master waits until their connections are
// idle, and then sends stop.
func presets() []preset {
	return []preset{
		{name: "gunicorn", kind: KindSocketActivation, drain: signalNone, stop: "TERM", foreground: "leave out --daemon"},
		{name: "uvicorn", kind: KindSocketActivation, drain: signalNone, stop: "TERM"},
		{name: "node", kind: KindUnmodified, drain: signalNone, stop: "TERM"},
		{name: "nginx", kind: KindSocketActivation, drain: signalNone, stop: "QUIT", nonBlocking: true, byAddress: true, env: nginxEnv, capabilities: serverCapabilities, foreground: "nginx -g 'daemon off;'"},
		{name: "caddy", kind: KindUnmodified, drain: signalNone, stop: "TERM", capabilities: "DAC_OVERRIDE NET_BIND_SERVICE", foreground: "caddy run in the place of caddy start"},
		{name: "puma", kind: KindSocketActivation, drain: signalNone, stop: "TERM", byAddress: true, foreground: "leave out --daemon"},
		{name: "haproxy", kind: KindSocketActivation, drain: "USR1", stop: "TERM", capabilities: serverCapabilities, foreground: "haproxy -W, or -db, and not -D"},
		{name: "php-fpm", kind: KindSocketActivation, drain: "QUIT", stop: "TERM", env: fpmEnv, capabilities: serverCapabilities, foreground: "php-fpm --nodaemonize"},
		{name: "apache", kind: KindUnmodified, drain: signalNone, stop: "WINCH", capabilities: serverCapabilities, foreground: "apache2 -D FOREGROUND"},
		{name: "lighttpd", kind: KindUnmodified, drain: signalNone, stop: "INT", capabilities: serverCapabilities, foreground: "lighttpd -D"},
		{name: "php", kind: KindUnmodified, drain: signalNone, stop: "INT"},
		{name: "tomcat", kind: KindUnmodified, drain: signalNone, stop: "TERM", foreground: "catalina.sh run in the place of catalina.sh start"},
		{name: "redis", kind: KindUnmodified, drain: signalNone, stop: "TERM", surge: "replace", foreground: "redis-server --daemonize no"},
	}
}

func presetNames() []string {
	names := []string{presetNone}
	for _, p := range presets() {
		names = append(names, p.name)
	}
	return names
}

// PresetKind is the kind that a preset fills in; empty: there is no such preset.
func PresetKind(name string) string {
	for _, p := range presets() {
		if p.name == name {
			return p.kind
		}
	}
	return ""
}

// Foreground says how the worker's program is kept from going into the background, by its
// preset or by its name; empty: that is not known.
func (w *Worker) Foreground() string {
	for _, p := range presets() {
		if p.name == w.Preset || len(w.Command) > 0 && strings.HasPrefix(filepath.Base(w.Command[0]), p.name) {
			return p.foreground
		}
	}
	return ""
}

// SpeaksHTTP reports whether a listener is known to be HTTP: it is checked by that, or its
// server knows nothing else.
func (c *Config) SpeaksHTTP(listener string) bool {
	switch c.Worker.Preset {
	case "", presetNone, "haproxy", "php-fpm", "nginx", "redis": // they can speak others, or speak another
		return c.Health.HTTP != nil && c.Health.HTTP.Listener == listener
	}
	return true
}

// fill gives values that were not given what a preset, or the kind of the service, says.
func (b *builder) fill(c *Config) {
	set := func(path string, p *string, value, by string) {
		if !b.given(path) {
			*p, b.filled[path] = value, by
		}
	}
	if i := slices.IndexFunc(presets(), func(p preset) bool { return p.name == c.Worker.Preset }); i >= 0 {
		p, by := presets()[i], "preset "+c.Worker.Preset
		set("worker.kind", &c.Worker.Kind, p.kind, by)
		set("worker.stop_signal", &c.Worker.StopSignal, p.stop, by)
		if p.surge != "" {
			set("rollout.surge", &c.Rollout.Surge, p.surge, by)
		}
		if p.nonBlocking && !b.given("worker.non_blocking") {
			c.Worker.NonBlocking, b.filled["worker.non_blocking"] = true, by
		}
		if len(c.Drain.Command) == 0 {
			set("drain.signal", &c.Drain.Signal, p.drain, by)
		}
	}
	if c.Worker.Kind != KindSDK && len(c.Listeners) == 0 {
		const by = "a service without listeners"
		set("rollout.surge", &c.Rollout.Surge, "one", by)
		if !b.given("rollout.bake") {
			c.Rollout.Bake, b.filled["rollout.bake"] = 0, by
		}
	}
}

// filledKeys are those that fill gives values to.
func filledKeys() []string {
	return []string{"worker.kind", "worker.stop_signal", "worker.non_blocking", "drain.signal", "rollout.surge", "rollout.bake"}
}

// FirstFD is the number of a worker's first descriptor (SD_LISTEN_FDS_START).
const FirstFD = 3

// PresetEnv is what the preset has a worker be told of its listeners, NAME=value;
// empty: nothing.
func (c *Config) PresetEnv() (name, value string) {
	for _, p := range presets() {
		if p.name == c.Worker.Preset && p.env != nil && c.Worker.Kind == KindSocketActivation && len(c.Listeners) > 0 {
			return p.env(c.Listeners)
		}
	}
	return "", ""
}

// nginxEnv is what nginx tells its successor: the numbers. It knows them by their
// addresses again.
func nginxEnv(ls []Listener) (name, value string) {
	for i := range ls {
		value += fmt.Sprintf("%d;", FirstFD+i)
	}
	return "NGINX", value
}

// pathless refuses Unix listeners for a server that would not find its socket.
func (b *builder) pathless(c *Config) {
	i := slices.IndexFunc(presets(), func(p preset) bool { return p.name == c.Worker.Preset })
	if i < 0 || !presets()[i].byAddress || c.Worker.Kind != KindSocketActivation {
		return
	}
	for n, l := range c.Listeners {
		if l.Network == "unix" {
			b.add(fmt.Sprintf("listeners[%d].address", n), fmt.Sprintf("%s finds its sockets by their paths, and each version's Unix socket has a path of its own, "+
				"so it would not take this one; use tcp://127.0.0.1:PORT", c.Worker.Preset))
		}
	}
}

// fpmEnv is what php-fpm tells its successor: "ADDRESS=NUMBER", with the address
// as the kernel has it, and no brackets around one of IPv6.
func fpmEnv(ls []Listener) (name, value string) {
	all := make([]string, len(ls))
	for i, l := range ls {
		at := l.Path
		if l.Network != "unix" {
			at = fmt.Sprintf("%s:%d", cmp.Or(l.Host, "::"), l.Port)
			if l.Host == "" && l.Network == "tcp4" {
				at = fmt.Sprintf("0.0.0.0:%d", l.Port)
			}
		}
		all[i] = fmt.Sprintf("%s=%d", at, FirstFD+i)
	}
	return "FPM_SOCKETS", strings.Join(all, ",")
}
