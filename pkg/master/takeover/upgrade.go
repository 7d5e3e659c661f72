package takeover

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/ipc/fdpass"
	"github.com/masterd/masterd/pkg/master/keeper"
	"github.com/masterd/masterd/pkg/master/rollout"
	"github.com/masterd/masterd/pkg/master/state"
)

// An upgrade puts another masterd in this one's place: the same process id, so
// that workers stay children and the service manager notices nothing. It is a
// death that was announced: the other one adopts what it finds, as after a
// kill. While it is young the keeper stands by with this one's program.

const (
	// GuardTime is how long the keeper stands by; the new master says after
	// ProvenAfter that it is not needed any more.
	GuardTime   = time.Minute
	ProvenAfter = 30 * time.Second
	// joinWithin is how long a new master may take until it has joined the keeper. One
	// that dies is noticed at once; this is for one that hangs, and a busy machine is
	// none.
	joinWithin = 5 * time.Second
	// LeaveWait bounds the wait for connections that are about to be placed.
	LeaveWait = 2 * time.Second
	// closingLimit is how long masterd waits for what others have sent to be closed before
	// it becomes another program.
	closingLimit = 200 * time.Millisecond
)

// successor is another masterd that takes this one's place.
type successor struct {
	program string   // empty: it runs already
	old     *os.File // what runs now
	since   time.Time
}

// Possible reports whether there can be upgrades to a program. It may be called from any
// goroutine.
func (t *Takeover) Possible(program string) bool {
	return t.System.Prove != nil && program != "" && t.Keeper.PID() != 0
}

// Prove has a binary prove itself, and returns its version. It is called beside the loop.
func (t *Takeover) Prove(program string) (string, error) {
	ctx, cancel := context.WithTimeout(t.Loop.Life(), proveTimeout)
	defer cancel()
	return t.System.Prove(ctx, t.Self.As(program))
}

// MayLeave returns why another masterd cannot take over at this moment; nil: it can. exec
// says that it is to take over in this process.
func (t *Takeover) MayLeave(exec bool) error {
	st := t.Master.Machine()
	switch {
	case t.successor != nil:
		return errors.New("an upgrade is under way")
	case st.Stopping:
		return errors.New("the service is stopping")
	case st.Rollout != nil && !st.Rollout.Stage.Served() && st.Rollout.Stage != rollout.StageCanary:
		return fmt.Errorf("rollout %d is at stage %s and an upgrade would end it; wait for it, or abort it", st.Rollout.ID,
			st.Rollout.Stage)
	case exec && fdpass.Hanging() > 0:
		return fmt.Errorf("%d descriptors that workers or clients have sent cannot be closed, "+
			"because the server of their file system (FUSE, as a rule) does not answer, and the kernel would wait for it; "+
			"end it, or who has sent them (`masterd reload` replaces the workers and ends what they have started), "+
			"or write 1 to its /sys/fs/fuse/connections/*/abort", fdpass.Hanging())
	}
	return nil
}

// LeaveFor is Leave for callers beside the loop, and opens the program that runs now.
func (t *Takeover) LeaveFor(u *state.LiveUpgrade) error {
	old, err := os.Open("/proc/self/exe")
	if err != nil {
		return fmt.Errorf("opening the masterd that runs, to come back to it: %w", err)
	}
	why := errors.New("the service is ending")
	t.Loop.Call(func() { why = t.Leave(u, old) })
	if why != nil {
		_ = old.Close()
	}
	return why
}

// Leave has the loop end for another masterd. old is the program that runs now, for the way
// back; when Leave returns an error, it stays the caller's to close.
func (t *Takeover) Leave(u *state.LiveUpgrade, old *os.File) error {
	if why := t.MayLeave(u.Program != ""); why != nil {
		return why
	}
	t.successor = &successor{program: u.Program, old: old, since: time.Now()}
	t.upgrade = u
	time.AfterFunc(LeaveWait, func() { t.Loop.Post(func() {}) }) // the loop looks again
	return nil
}

// Stay gives an upgrade up: what has ended nobody takes over.
func (t *Takeover) Stay() { t.successor = nil }

// Leaving reports whether another masterd takes this one's place.
func (t *Takeover) Leaving() bool { return t.successor != nil }

// MayEnd reports whether the loop is to end now for another masterd: the connections that
// wait here for a worker were passed to one, or LeaveWait is over.
func (t *Takeover) MayEnd() bool {
	return t.successor != nil && (t.Master.Waiting() == 0 || time.Since(t.successor.since) >= LeaveWait)
}

// Successor is the program that this process is to become; empty: another process takes
// over.
func (t *Takeover) Successor() string { return t.successor.program }

// Guard has the keeper stand by. The loop has ended.
func (t *Takeover) Guard() {
	if t.proving != nil {
		<-t.proving // or this guard would be ended, too
	}
	dir, err := os.Getwd()
	if err != nil {
		dir = "/" // it is gone
	}
	err = t.Keeper.Guard(keeper.Guard{
		Program: t.successor.old, Args: t.Self.Args(RunVerb), Env: t.Self.Environ(RestoredEnv + "=" + t.successor.program),
		Dir: dir, Stderr: os.Stderr, Report: t.Report,
		For: GuardTime, JoinWithin: joinWithin,
	})
	if err == nil {
		err = keeper.Guarded(t.Report, GuardTime)
	}
	if err != nil {
		t.Log.Warn("the keeper cannot stand by", zap.Error(err))
	}
}

// AwaitClosing waits, within a limit, for what others have sent to be closed: an exec closes
// what is open still, and waits for that. If a close hangs only since MayLeave, so does the
// exec: the keeper brings this masterd back.
func AwaitClosing() {
	for end := time.Now().Add(closingLimit); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if now, _ := fdpass.Closing(); now == 0 {
			break
		}
	}
}

// Begin has this master say after a while that it is proven.
func (t *Takeover) Begin() {
	if t.Self.Program != "" {
		time.AfterFunc(ProvenAfter, func() { t.Loop.Post(t.Proven) })
	}
}

// Proven tells the keeper, and who else supervises masterd, that this master has lived for a
// while: nobody has to stand by any more. The keeper's answer is waited for beside the loop.
func (t *Takeover) Proven() {
	if t.Leaving() {
		return // for the next master a guard is wanted
	}
	t.upgrade = nil
	told := make(chan struct{})
	t.proving = told
	t.Loop.Go(func() {
		defer close(told)
		if err := t.Keeper.Unguard(); err != nil {
			t.Log.Warn("the keeper cannot be told that this masterd is well; it stands by for its time", zap.Error(err),
				zap.Duration("for", GuardTime))
			time.AfterFunc(GuardTime, func() { t.Loop.Post(t.Notices.PassPidfds) }) // it began before this masterd
			return
		}
		if err := keeper.Unguarded(t.Report); err != nil {
			t.Log.Warn("who supervises this masterd cannot be told that the keeper does not stand by any more", zap.Error(err))
		}
		t.Loop.Post(t.Notices.PassPidfds)
	})
}

// RecordTakeover writes into the history how this master has come after another one: only
// the next master can tell how an upgrade has ended, or that the one before was killed.
func (t *Takeover) RecordTakeover() {
	l := t.left
	t.left = nil
	if l == nil {
		return
	}
	e := api.Entry{What: "upgrade", By: "masterd", Outcome: api.ResultDone}
	u := l.Upgrade
	if u != nil {
		e.By, e.Why = u.By, u.Why
	}
	switch {
	case t.Restored != "":
		e.Outcome, e.Reason = api.ResultRolledBack, fmt.Sprintf("%s died after it had taken over; masterd %s is back",
			t.Restored, t.Version)
	case u != nil && !u.Taken && u.Program == "":
		e.What, e.Reason = "takeover", fmt.Sprintf("masterd %s made way for %s", l.Masterd, t.Version)
	case u != nil && !u.Taken && l.PID == os.Getpid():
		e.Reason = fmt.Sprintf("masterd %s has taken over from %s", t.Version, u.From)
		taken := *u
		taken.Taken = true
		t.upgrade = &taken
	case u != nil && !u.Taken:
		e.Outcome, e.Reason = api.ResultFailed, fmt.Sprintf("%s died before it had taken over; masterd %s was started",
			u.Program, t.Version)
	default:
		e = api.Entry{What: "takeover", By: "masterd", Outcome: api.ResultDone,
			Reason: fmt.Sprintf("masterd %s, process %d, died without a stop; %s took over %d workers", l.Masterd, l.PID,
				t.Version, t.Workers.Len())}
	}
	t.Master.Record(e)
}

// ServesOnError is why a master could not take over what another one has left.
// That serves on, and may be taken over by somebody else, or at another time.
type ServesOnError struct{ Err error }

func (e *ServesOnError) Error() string {
	return "what the last master has left cannot be taken over, and serves on: " + e.Err.Error()
}

// Unwrap gives the cause.
func (e *ServesOnError) Unwrap() error { return e.Err }

// ServesOn reports whether workers of another master's live, who is gone, when a master could
// not be opened because of err; also where opening came to its end before anybody looked for
// them.
func (t *Takeover) ServesOn(err error) bool {
	if _, held := errors.AsType[*state.HeldError](err); held {
		return false
	}
	if t.boot == "" {
		return len(t.processesOfService()) > 0
	}
	return t.inherits && !t.deserted
}
