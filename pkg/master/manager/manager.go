// Package manager keeps the service manager informed by sd_notify(3): that the service
// is up, reloads or stops, that it needs more time, that it is alive, and a line for
// `systemctl status`. A [Manager] belongs to one goroutine, which is the master's loop.
package manager

import (
	"fmt"
	"strings"
	"time"

	"github.com/masterd/masterd/pkg/master/rollout"
)

const (
	// defaultPulse is how often the service manager is kept patient when it has
	// no watchdog.
	defaultPulse = 5 * time.Second
	// extendBy is the time asked for at each pulse of something that may take
	// long: a first start, a rollout, a drain.
	extendBy = 30 * time.Second
	// maxStatusLine is the longest line shown by the service manager, in bytes.
	maxStatusLine = 240
)

// Manager is the service manager, and what it was last told.
type Manager struct {
	notify    func(state string) // nil: there is none
	watchdog  time.Duration      // zero: none
	starting  bool
	ready     bool
	reloading bool
	stopping  bool
	status    string
	trouble   string          // why the last reload was refused before it began, or how an unattended one ended
	after     rollout.Rollout // the newest one when trouble came: the end of a newer one takes its place
}

// New makes one that tells by notify; nil: nobody is told.
func New(notify func(state string), watchdog time.Duration) *Manager {
	return &Manager{notify: notify, watchdog: watchdog}
}

// Facts are how the service is.
type Facts struct {
	rollout.Status
	Version  string   // label of the active generation's; empty: it is not known
	Degraded []string // why the service is not as it should be
}

func (m *Manager) tell(state ...string) {
	if m.notify != nil && len(state) > 0 {
		m.notify(strings.Join(state, "\n"))
	}
}

// Tell tells what has changed. READY comes with the first generation that serves, or
// once it is clear that the first one does not: a bad program must not keep the machine
// from booting.
func (m *Manager) Tell(f Facts) {
	if m.notify == nil {
		return
	}
	// In one message with what it is about: who waits for that can read it then.
	var say, status []string
	if line := m.statusLine(f); line != m.status {
		m.status = line
		status = append(status, "STATUS="+line)
	}
	if !m.ready && !f.Stopping && (f.Serving || f.LastFailure != nil) {
		m.ready = true
		// By itself: of READY, RELOADING and STOPPING in one message only the
		// last one counts, and the start would never end.
		m.tell(append([]string{"READY=1"}, status...)...)
		status = nil
	}
	if m.ready && !f.Stopping {
		moving := f.Rollout != nil && !f.Rollout.Stage.Served()
		if moving && !m.reloading {
			say = append(say, "RELOADING=1", fmt.Sprintf("MONOTONIC_USEC=%d", monotonic()), extend())
		}
		if !moving && m.reloading {
			say = append(say, "READY=1")
		}
		m.reloading = moving
	}
	if f.Stopping && !m.stopping {
		m.stopping = true
		say = append(say, "STOPPING=1", extend())
	}
	if !m.ready && !m.starting {
		m.starting = true
		say = append(say, extend())
	}
	m.tell(append(say, status...)...)
}

// extend asks for more time: at once when something long begins, as what the
// manager gives may be less than a pulse, and with each pulse while it lasts.
func extend() string { return fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", extendBy.Microseconds()) }

// statusLine is what `systemctl status` shows.
func (m *Manager) statusLine(f Facts) string {
	var parts []string
	add := func(format string, args ...any) { parts = append(parts, fmt.Sprintf(format, args...)) }
	switch {
	case f.Stopping && !f.Drains.IsZero():
		add("stopping: announced, drains at %s", f.Drains.Format(time.TimeOnly))
	case f.Stopping:
		add("stopping")
	case f.Serving && f.Version != "":
		add("serving %s (generation %d)", f.Version, f.Active)
	case f.Active == 0:
		add("starting")
	default:
		add("DOWN: no live worker has the traffic")
	}
	if r := f.Rollout; r != nil {
		add("%s: %s", r.What, r.Stage)
	}
	if f.Hold != "" {
		add("held: %s", f.Hold)
	}
	for _, why := range f.Degraded {
		add("degraded: %s", why)
	}
	switch e := f.Last; {
	case m.trouble != "" && (e == nil || e.Rollout <= m.after):
		add("%s", m.trouble)
	case e != nil && (e.Code == rollout.Failed || e.Code == rollout.RolledBack):
		// The one who asked may be a service manager, which shows nothing of the
		// answer.
		add("the last %s %s at stage %s: %s", e.What, strings.ReplaceAll(e.Code.String(), " ", "-"), e.Stage, e.Reason)
	}
	line := strings.Map(func(r rune) rune {
		if r < ' ' {
			return ' '
		}
		return r
	}, strings.Join(parts, "; "))
	if len(line) > maxStatusLine {
		line = strings.ToValidUTF8(line[:maxStatusLine-3], "") + "..."
	}
	return line
}

// Trouble shows that a reload was refused, or how an unattended one went, until a
// rollout that began later has ended.
func (m *Manager) Trouble(what string, f Facts) {
	m.trouble, m.after = what, 0
	if f.Rollout != nil {
		m.after = f.Rollout.ID
	} else if f.Last != nil {
		m.after = f.Last.Rollout
	}
	m.Tell(f)
}

// Interval is how often Pulse is to be called: half the watchdog's time, as
// sd_watchdog_enabled(3) asks.
func (m *Manager) Interval() time.Duration {
	if m.watchdog > 0 {
		return min(m.watchdog/2, defaultPulse)
	}
	return defaultPulse
}

// Pulse tells that the caller is alive, and asks for more time while something is under
// way that ends by deadlines which the service manager does not know.
func (m *Manager) Pulse(st rollout.Status) {
	var say []string
	if !m.ready || m.reloading || st.Stopping {
		say = append(say, extend())
	}
	if m.watchdog > 0 {
		// In the same message, and systemd takes it after the extension, which
		// is for all of a unit's timers: a loop that hangs during a rollout
		// would be noticed only after extendBy.
		say = append(say, "WATCHDOG=1")
	}
	m.tell(say...)
}
