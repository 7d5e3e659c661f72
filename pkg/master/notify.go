package master

import (
	"fmt"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/master/config"
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
	starting  bool
	ready     bool
	reloading bool
	stopping  bool
	status    string
	trouble   string          // why the last reload was refused before it began, or how an unattended one ended
	after     rollout.Rollout // the newest one when trouble came: the end of a newer one takes its place
}

func (m *Master) tellManager(state ...string) {
	if m.opt.Notify != nil && len(state) > 0 {
		m.opt.Notify(strings.Join(state, "\n"))
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
	// In one message with what it is about: who waits for that can read it then.
	var say, status []string
	if line := m.statusLine(st); line != n.status {
		n.status = line
		status = append(status, "STATUS="+line)
	}
	if !n.ready && !st.Stopping && (st.Serving || st.LastFailure != nil) {
		n.ready = true
		// By itself: of READY, RELOADING and STOPPING in one message only the
		// last one counts, and the start would never end.
		m.tellManager(append([]string{"READY=1"}, status...)...)
		status = nil
	}
	if n.ready && !st.Stopping {
		moving := st.Rollout != nil && !served(st.Rollout.Stage)
		if moving && !n.reloading {
			say = append(say, "RELOADING=1", fmt.Sprintf("MONOTONIC_USEC=%d", monotonic()), extend())
		}
		if !moving && n.reloading {
			say = append(say, "READY=1")
		}
		n.reloading = moving
	}
	if st.Stopping && !n.stopping {
		n.stopping = true
		say = append(say, "STOPPING=1", extend())
	}
	if !n.ready && !n.starting {
		n.starting = true
		say = append(say, extend())
	}
	m.tellManager(append(say, status...)...)
}

// takesLong: something is under way that ends by deadlines of ours, which the
// service manager does not know.
func (m *Master) takesLong(st rollout.Status) bool {
	return !m.notified.ready || m.notified.reloading || st.Stopping
}

// extend asks for more time: at once when something long begins, as what the
// manager gives may be less than a pulse, and with each pulse while it lasts.
func extend() string { return fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", extendBy.Microseconds()) }

// served: the traffic was moved.
func served(s rollout.Stage) bool {
	return s == rollout.StageServing || s == rollout.StageBake || s == rollout.StageConfirm || s == rollout.StageBaked
}

// statusLine is what `systemctl status` shows.
func (m *Master) statusLine(st rollout.Status) string {
	var parts []string
	add := func(format string, args ...any) { parts = append(parts, fmt.Sprintf(format, args...)) }
	switch g := m.generations[st.Active]; {
	case st.Stopping && !st.Drains.IsZero():
		add("stopping: announced, drains at %s", st.Drains.Format(time.TimeOnly))
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
	for _, why := range m.lacks(m.refused) {
		add("degraded: %s", why)
	}
	if loop, ended := looping(st, time.Now()); loop != "" {
		add("degraded: %s The last one, worker %d, %s", loop, ended.Worker, ended.How)
	}
	switch e := st.Last; {
	case m.notified.trouble != "" && (e == nil || e.Rollout <= m.notified.after):
		add("%s", m.notified.trouble)
	case e != nil && (e.Code == rollout.Failed || e.Code == rollout.RolledBack):
		// The one who asked may be a service manager, which shows nothing of the
		// answer.
		add("the last %s %s at stage %s: %s", e.What, result(e.Code), e.Stage, e.Reason)
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

// notifyTrouble shows that a reload was refused, or how an unattended one went,
// until a rollout that began later has ended.
func (m *Master) notifyTrouble(what string) {
	st := m.machine.Status()
	m.notified.trouble, m.notified.after = what, 0
	if st.Rollout != nil {
		m.notified.after = st.Rollout.ID
	} else if st.Last != nil {
		m.notified.after = st.Last.Rollout
	}
	m.notifyState(st)
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
	m.feed()
	m.lookAtClosing()
	m.keepLive() // its times, too: they count only up to when it was written
	m.lookAtFile()
	m.notifyState(m.machine.Status()) // time alone ends a loop
}

// lookAtClosing warns once that descriptors which others have sent take long to be
// closed: they were being closed at the pulse before, too.
func (m *Master) lookAtClosing() {
	before, told := m.closing.now, m.closing.told
	now, most := ipc.Closing()
	if now > 0 && before > 0 && !told {
		m.log.Warn("descriptors that workers or clients have sent take long to be closed; they stay open meanwhile",
			zap.Int("now", now), zap.Int("at_once", most))
		told = true
	}
	m.closing.now, m.closing.told = now, told && now > 0
}

// lookAtFile ends the complaint about a configuration that could not be used, or names
// what is refused, once that is over.
func (m *Master) lookAtFile() {
	if m.degraded == "" && m.refused == nil || m.looking {
		return
	}
	m.looking = true
	cfg, refused := m.cfg, m.refused
	m.beside(func() {
		usable := m.fileUsable()
		if refused != nil {
			refused = config.Refused(cfg)
		}
		m.at(func() {
			m.looking = false
			if m.cfg == cfg {
				m.refused = refused
			}
			if usable && m.degraded != "" {
				m.degraded = ""
				m.log.Info("the configuration on disk can be used again; `masterd reload` takes it over", zap.String("file", m.opt.Config.File))
				m.notifyState(m.machine.Status())
			}
		})
	})
}

// feed tells the service manager that the loop is alive.
func (m *Master) feed() {
	var say []string
	if m.takesLong(m.machine.Status()) {
		say = append(say, extend())
	}
	if m.opt.Watchdog > 0 {
		// In the same message, and systemd takes it after the extension, which
		// is for all of a unit's timers: a loop that hangs during a rollout
		// would be noticed only after extendBy.
		say = append(say, "WATCHDOG=1")
	}
	m.tellManager(say...)
}
