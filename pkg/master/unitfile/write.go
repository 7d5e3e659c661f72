package unitfile

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/draft"
)

// write writes the configuration.
func (u *Unit) write(from string) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("# %s, by masterd import.", draft.Comment(from))
	for _, n := range u.Notes {
		if n.Open && n.Key != "listeners" { // of those there is a TODO below
			line("# Not carried over: %s: %s", draft.Comment(n.Key), draft.Comment(n.Text))
		}
	}
	line("service: %s", u.Service)
	u.writeListeners(line)
	u.writeWorker(line)
	if len(u.listeners) > 0 {
		line("# It is checked by GET /healthz on the first listener, and must answer 200: see health in")
		line("# masterd.yaml(5) for another path, a connection alone (health: {tcp: {}}), or a command.")
	}
	if u.start > 0 {
		line("health:")
		line("  start: {timeout: %s} # TimeoutStartSec", within(u.start, time.Second, time.Hour))
	}
	if u.restart > 0 {
		initial := within(u.restart, 10*time.Millisecond, maxRestart)
		line("restart: {initial: %s, max: %s} # RestartSec", initial, max(initial, 10*time.Second))
	}
	switch {
	case u.stop == forever:
		line("drain: {timeout: 0} # no TimeoutStopSec: as long as it takes")
		line("stop_timeout: 24h")
	case u.stop > 0:
		line("drain: {timeout: %s} # TimeoutStopSec", within(u.stop, time.Second, 168*time.Hour))
		line("stop_timeout: %s", within(u.stop, time.Second, 24*time.Hour))
	}
	return b.String()
}

func within(t, least, most time.Duration) time.Duration { return max(least, min(t, most)) }

// writeListeners writes where the program is to listen. What was guessed has to be looked at.
func (u *Unit) writeListeners(line func(format string, args ...any)) {
	if u.sign != "" {
		line("# TODO: it seems to listen (%s).", draft.Comment(u.sign))
		line("# masterd opens the sockets, and gives them to each version. Look whether this is its address:")
	}
	if u.preset != nil && u.preset.Hint != "" {
		line("# %s.", draft.Comment(u.preset.Hint))
	}
	if len(u.listeners) == 0 {
		if u.sign != "" {
			line("# listeners:")
			line("#   - {name: http, address: %s}", draft.Quote("tcp://127.0.0.1:8080"))
		} else if !u.socket {
			line("# If it listens somewhere, say so: see listeners in masterd.yaml(5).")
		}
		line("listeners: []")
		return
	}
	line("listeners:")
	for _, l := range u.listeners {
		backlog := ""
		if l.backlog > 0 {
			backlog = fmt.Sprintf(", backlog: %d", l.backlog)
		}
		line("  - {name: %s, address: %s%s}", draft.Quote(l.name), draft.Quote(l.address), backlog)
	}
}

func (u *Unit) writeWorker(line func(format string, args ...any)) {
	w := &u.worker
	line("worker:")
	if u.preset != nil {
		line("  preset: %s", u.preset.Name)
	}
	switch {
	case u.socket:
		line("  kind: %s", config.KindSocketActivation)
	case u.preset != nil:
	case u.sign != "":
		line("  # As it is: its bind of a listener's address gets it the socket. \"sdk\" is for programs")
		line("  # that have masterd's worker package, \"socket-activation\" for those that take LISTEN_FDS.")
		line("  kind: %s", config.KindUnmodified)
	default:
		line("  # As it is: without masterd's worker package. Should it listen by itself: kind: unmodified")
		line("  kind: %s", config.KindSocketActivation)
	}
	line("  command: %s", list(w.command))
	if u.preset != nil && u.preset.PinPath {
		line("  pin: path # it is not one file")
	}
	for _, k := range [][2]string{{"directory", w.directory}, {"user", w.user}, {"group", w.group}} {
		if k[1] != "" {
			line("  %s: %s", k[0], draft.Quote(k[1]))
		}
	}
	if len(u.limits) > 0 {
		var all []string
		for _, name := range slices.Sorted(maps.Keys(u.limits)) {
			all = append(all, name+": "+u.limits[name])
		}
		line("  limits: {%s}", strings.Join(all, ", "))
	}
	for _, k := range [][2]string{{"stop_signal", w.signal}, {"no_new_privileges", w.privileges}} {
		if k[1] != "" {
			line("  %s: %s", k[0], draft.Quote(k[1]))
		}
	}
	if w.ready {
		line("  ready: notify")
	}
	if w.access != "" {
		line("  notify_access: %s", w.access)
	}
	if w.watchdog > 0 {
		line("  watchdog: %s", within(w.watchdog, 100*time.Millisecond, 24*time.Hour))
	}
	if w.nonBlocking {
		line("  non_blocking: true")
	}
	if w.stored > 0 {
		line("  fd_store: %d", w.stored)
	}
	if len(u.files) > 0 {
		line("  env_files: %s", list(u.files))
	}
	if len(w.env) > 0 {
		line("  env:")
		for _, name := range slices.Sorted(maps.Keys(w.env)) {
			line("    %s: %s", draft.Quote(name), draft.Quote(w.env[name]))
		}
	}
}

// list is a list on one line.
func list(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = draft.Quote(w)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}
