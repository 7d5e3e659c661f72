package master

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

// notified is what the service manager was last told.
type notified struct {
	ready     bool
	reloading bool
	stopping  bool
	status    string
	trouble   string // of the last unattended reload, until the next one ends well
}

func (m *Master) tellManager(state string) {
	if m.opt.Notify != nil {
		m.opt.Notify(state)
	}
}

// notifyState tells the service manager what has changed. READY comes with the
// first generation that serves, or once it is clear that the first one does
// not: a bad program must not keep the machine from booting.
func (m *Master) notifyState(st rollout.Status) {
	if m.opt.Notify == nil {
		return
	}
	n := &m.notified
	if !n.ready && !st.Stopping && (st.Serving || st.LastFailure != nil) {
		n.ready = true
		m.tellManager("READY=1")
	}
	if n.ready && !st.Stopping {
		moving := st.Rollout != nil && !served(st.Rollout.Stage)
		if moving && !n.reloading {
			m.tellManager(fmt.Sprintf("RELOADING=1\nMONOTONIC_USEC=%d", monotonic()))
		}
		if !moving && n.reloading {
			m.tellManager("READY=1")
		}
		n.reloading = moving
	}
	if st.Stopping && !n.stopping {
		n.stopping = true
		m.tellManager("STOPPING=1")
	}
	if line := m.statusLine(st); line != n.status {
		n.status = line
		m.tellManager("STATUS=" + line)
	}
}

// served: the traffic was moved.
func served(s rollout.Stage) bool {
	return s == rollout.StageServing || s == rollout.StageBake || s == rollout.StageConfirm || s == rollout.StageBaked
}

// statusLine is what `systemctl status` shows.
func (m *Master) statusLine(st rollout.Status) string {
	var parts []string
	add := func(format string, args ...any) { parts = append(parts, fmt.Sprintf(format, args...)) }
	switch g := m.generations[st.Active]; {
	case st.Stopping:
		add("stopping")
	case st.Serving && g != nil:
		add("serving %s (generation %d)", g.version.Label, g.id)
	case st.Active == 0:
		add("starting")
	default:
		add("DOWN: no live worker has the traffic")
	}
	if r := st.Rollout; r != nil {
		add("%s: %s", r.What, r.Stage)
	}
	if st.Hold != "" {
		add("held: %s", st.Hold)
	}
	if m.degraded != "" {
		add("degraded: %s", m.degraded)
	}
	if m.notified.trouble != "" {
		add("%s", m.notified.trouble)
	} else if e := st.LastFailure; e != nil && !st.Serving {
		add("%s failed: %s", e.What, e.Reason)
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

// notifyTrouble shows how an unattended reload went.
func (m *Master) notifyTrouble(what string) {
	m.notified.trouble = what
	m.notifyState(m.machine.Status())
}

// pulseInterval is half the watchdog's time, as sd_watchdog_enabled(3) asks.
func (m *Master) pulseInterval() time.Duration {
	if m.opt.Watchdog > 0 {
		return min(m.opt.Watchdog/2, defaultPulse)
	}
	return defaultPulse
}

// pulse comes from the loop itself: a loop that hangs is noticed.
func (m *Master) pulse() {
	if m.opt.Watchdog > 0 {
		m.tellManager("WATCHDOG=1")
	}
	if st := m.machine.Status(); !m.notified.ready || m.notified.reloading || st.Stopping {
		m.tellManager(fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", extendBy.Microseconds()))
	}
}
