package master

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/keeper"
	"github.com/masterd/masterd/pkg/master/rollout"
	"github.com/masterd/masterd/pkg/master/state"
)

// An upgrade puts another masterd in this one's place: the same process id, so
// that workers stay children and the service manager notices nothing. It is a
// death that was announced: the other one adopts what it finds, as after a
// kill. While it is young the keeper stands by with this one's program.

const (
	// proveTimeout bounds a new binary's proof that it could take over.
	proveTimeout = 15 * time.Second
	// proveReads bounds how often the proof reads live.json, when the running master
	// drops what it has just named.
	proveReads = 10
	// guardTime is how long the keeper stands by; the new master says after
	// provenAfter that it is not needed any more.
	guardTime   = time.Minute
	provenAfter = 30 * time.Second
	// joinWithin is how long a new master may take until it has joined the keeper. One
	// that dies is noticed at once; this is for one that hangs, and a busy machine is
	// none.
	joinWithin = 5 * time.Second
	// leaveWait bounds the wait for connections that are about to be placed.
	leaveWait = 2 * time.Second
)

// Replaced is what [Master.Run] returns when another masterd is to take this
// one's place: the caller execs [Master.Successor].
const Replaced = -1

// RestoredEnv is in the environment of a masterd that the keeper, or a failed
// exec, has brought back: the binary that was to take over.
const RestoredEnv = "MASTERD_RESTORED"

// StartedAsEnv carries over an exec by which path masterd was started, see
// [Self.Program].
const StartedAsEnv = "MASTERD_STARTED_AS"

// Self is how this process was started. What was resolved then stays so for every
// masterd that follows it: paths are absolute, with the symbolic links in them that
// were there. So an upgrade runs what they lead to now, and reads what a reload reads.
type Self struct {
	Program string   // its file, as it was named; another may lie there by now
	Flags   []string // of the verb run, and of the proof that it would work
	Env     []string
}

// As is the same start of another program.
func (s Self) As(program string) Self {
	s.Program = program
	return s
}

// Args are the arguments of a verb.
func (s Self) Args(verb string) []string { return append([]string{s.Program, verb}, s.Flags...) }

// Environ is the environment, with more in it.
func (s Self) Environ(more ...string) []string {
	return slices.Concat(s.Env, []string{StartedAsEnv + "=" + s.Program}, more)
}

// leave is an upgrade that is under way.
type leave struct {
	program string   // empty: the other one runs already
	old     *os.File // what runs now
	since   time.Time
}

// Successor is the program to exec after Run has returned Replaced, and what to
// exec when that fails.
func (m *Master) Successor() (program string, self Self) { return m.leave.program, m.opt.Self }

// Upgrade has another binary prove that it can take over, and then leaves.
func (b backend) Upgrade(by string, r api.UpgradeRequest) (<-chan api.Event, error) {
	m := b.m
	program := cmp.Or(r.Binary, m.opt.Self.Program)
	if program != "" && !filepath.IsAbs(program) {
		return nil, refused(422, "The path of another masterd must be absolute, %s is not.", program)
	}
	if m.system.prove == nil || program == "" || m.keeper.PID() == 0 {
		return nil, refused(409, "There is no keeper that could hold the sockets meanwhile; `masterd status` and the log tell more.")
	}
	var why error
	m.ask(func() { why = m.mayLeave() })
	if why != nil {
		return nil, refused(409, "This masterd cannot be replaced now: %v.", why)
	}
	events := make(chan api.Event, 1)
	begun := time.Now()
	begins := m.beside(func() {
		defer close(events)
		var version string
		var err error
		o := api.Outcome{Result: api.ResultDone, Reason: "this masterd ends, for one that waits"}
		if r.MakeWay {
			program = ""
		} else if version, err = m.proved(program); err == nil {
			o.Reason = fmt.Sprintf("%s (%s) has proved that it can take over, and does", program, version)
		}
		if err == nil {
			err = m.leaveFor(&state.LiveUpgrade{By: by, Why: r.Reason, From: m.opt.Version, Program: program})
		}
		fields := []zap.Field{zap.String("by", by), zap.String("why", r.Reason), zap.String("binary", program), zap.String("its version", version)}
		if err != nil {
			o.Result, o.Reason = api.ResultFailed, err.Error()
			m.recordMasterd(api.Entry{What: "upgrade", By: by, Why: r.Reason, Outcome: api.ResultFailed, Reason: err.Error()})
			m.log.Error("an upgrade was refused, this masterd goes on", append(fields, zap.Error(err))...)
		} else {
			m.log.Info("another masterd takes over", fields...)
		}
		o.ElapsedMS = time.Since(begun).Milliseconds()
		events <- api.Event{Outcome: &o}
	})
	if !begins {
		return nil, refused(409, "%s", masterEnds)
	}
	return events, nil
}

// proved has a binary prove itself, and returns its version.
func (m *Master) proved(program string) (string, error) {
	ctx, cancel := context.WithTimeout(m.life, proveTimeout)
	defer cancel()
	return m.system.prove(ctx, m.opt.Self.As(program))
}

// leaveFor has the loop end for another masterd.
func (m *Master) leaveFor(u *state.LiveUpgrade) error {
	old, err := os.Open("/proc/self/exe")
	if err != nil {
		return fmt.Errorf("opening the masterd that runs, to come back to it: %w", err)
	}
	why := errors.New("the service is ending")
	m.ask(func() {
		if why = m.mayLeave(); why == nil {
			m.leave = &leave{program: u.Program, old: old, since: time.Now()}
			m.upgrade = u
			time.AfterFunc(leaveWait, func() { m.at(func() {}) }) // the loop looks again
		}
	})
	if why != nil {
		_ = old.Close()
	}
	return why
}

// mayLeave says why another masterd cannot take over at this moment.
func (m *Master) mayLeave() error {
	st := m.machine.Status()
	switch {
	case m.leave != nil:
		return errors.New("an upgrade is under way")
	case st.Stopping:
		return errors.New("the service is stopping")
	case st.Rollout != nil && !served(st.Rollout.Stage):
		return fmt.Errorf("rollout %d is at stage %s and an upgrade would end it; wait for it, or abort it", st.Rollout.ID, st.Rollout.Stage)
	}
	return nil
}

// left tells whether the loop shall end for another master. Connections that
// are in this one's hands are placed first.
func (m *Master) left() bool {
	return m.leave != nil && (len(m.orphans) == 0 || time.Since(m.leave.since) >= leaveWait)
}

// goAway gives everything up without changing anything: the keeper and the
// workers have it all.
func (m *Master) goAway() int {
	m.keepLive()
	code := 0
	if m.leave.program != "" {
		code = Replaced
		m.guard()
	}
	m.endLoop()
	m.close()
	for end := time.Now().Add(closingLimit); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if now, _ := ipc.Closing(); now == 0 {
			break // an exec closes what is open still, and waits for that
		}
	}
	return code
}

// closingLimit is how long masterd waits for what others have sent to be closed before
// it becomes another program.
const closingLimit = 200 * time.Millisecond

// guard has the keeper stand by.
func (m *Master) guard() {
	self := m.opt.Self
	dir, err := os.Getwd()
	if err != nil {
		dir = "/" // it is gone
	}
	err = m.keeper.Guard(keeper.Guard{
		Program: m.leave.old, Args: self.Args(RunVerb), Env: self.Environ(RestoredEnv + "=" + m.leave.program), Dir: dir, Stderr: os.Stderr, Report: m.opt.Report,
		For: guardTime, JoinWithin: joinWithin,
	})
	if err == nil {
		err = keeper.Guarded(m.opt.Report, guardTime)
	}
	if err != nil {
		m.log.Warn("the keeper cannot stand by", zap.Error(err))
	}
}

// proven: this master has lived for a while, nobody has to stand by.
func (m *Master) proven() {
	m.upgrade = nil
	if err := errors.Join(m.keeper.Unguard(), keeper.Unguarded(m.opt.Report)); err != nil {
		m.log.Warn("the keeper cannot be told that this masterd is well", zap.Error(err))
		return
	}
	m.notices.PassPidfds()
}

// recordMasterd adds to the history what has become of masterd itself.
func (m *Master) recordMasterd(e api.Entry) {
	e.At = time.Now()
	m.log.Info("history", zap.String("what", e.What), zap.String("by", e.By), zap.String("outcome", e.Outcome), given("why", e.Why), given("reason", e.Reason))
	m.queueDisk("the history", func() error { return m.history.Append(e) })
}

// recordTakeover says how this master has come after another one: only the next can
// tell how an upgrade has ended, or that the one before was killed.
func (m *Master) recordTakeover() {
	l := m.before
	m.before = nil
	if l == nil {
		return
	}
	e := api.Entry{What: "upgrade", By: "masterd", Outcome: api.ResultDone}
	u := l.Upgrade
	if u != nil {
		e.By, e.Why = u.By, u.Why
	}
	switch {
	case m.opt.Restored != "":
		e.Outcome, e.Reason = api.ResultRolledBack, fmt.Sprintf("%s died after it had taken over; masterd %s is back", m.opt.Restored, m.opt.Version)
	case u != nil && !u.Taken && u.Program == "":
		e.What, e.Reason = "takeover", fmt.Sprintf("masterd %s made way for %s", l.Masterd, m.opt.Version)
	case u != nil && !u.Taken && l.PID == os.Getpid():
		e.Reason = fmt.Sprintf("masterd %s has taken over from %s", m.opt.Version, u.From)
		taken := *u
		taken.Taken = true
		m.upgrade = &taken
	case u != nil && !u.Taken:
		e.Outcome, e.Reason = api.ResultFailed, fmt.Sprintf("%s died before it had taken over; masterd %s was started", u.Program, m.opt.Version)
	default:
		e = api.Entry{What: "takeover", By: "masterd", Outcome: api.ResultDone, Reason: fmt.Sprintf("masterd %s, process %d, died without a stop; %s took over %d workers", l.Masterd, l.PID, m.opt.Version, len(m.workers))}
	}
	m.recordMasterd(e)
}

// weak tells what is wrong with masterd itself; the service may be well.
func (m *Master) weak() (reasons []string) {
	if m.opt.Restored != "" {
		reasons = append(reasons, fmt.Sprintf("%s was to take over and died; this masterd is back.", m.opt.Restored))
	}
	if m.opt.Self.Program != "" && m.keeper.PID() == 0 {
		reasons = append(reasons, "There is no keeper: should masterd die now, its sockets die with it.")
	}
	return reasons
}

// Prove says whether a masterd of this build could take over the service of a
// configuration: it reads what it would have to, and changes nothing.
func Prove(cfg *config.Config, parse func([]byte) (*config.Config, error)) error {
	if err := errors.Join(state.TryDirs(cfg.RuntimeDir, cfg.StateDir), config.Refused(cfg), config.RefusedLog(cfg)); err != nil {
		return err
	}
	var recovered *state.RecoveredError
	if _, err := state.Load(cfg.StateDir); err != nil && !errors.As(err, &recovered) {
		return err
	}
	for reads := 1; ; reads++ {
		l, err := state.LoadLive(cfg.RuntimeDir, state.Boot())
		if err != nil || l == nil {
			return err
		}
		// The master that runs goes on meanwhile: what this live.json names it may
		// have dropped since, and then there is a newer one.
		if err = readConfigs(cfg.RuntimeDir, l, parse); err == nil {
			return rollout.CheckSnapshot(l.Machine)
		}
		if !errors.Is(err, fs.ErrNotExist) || reads == proveReads {
			return err
		}
	}
}

// readConfigs reads all that a next master would have to.
func readConfigs(dir string, l *state.Live, parse func([]byte) (*config.Config, error)) error {
	for _, c := range l.Configs {
		text, err := state.LoadConfig(dir, c.Digest)
		if err == nil {
			_, err = parse(text)
		}
		if err != nil {
			return fmt.Errorf("the configuration that runs: %w", err)
		}
	}
	return nil
}
