package keeper

import (
	"errors"
	"fmt"
	"os"
	"time"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/ipc/fdpass"
	"github.com/masterd/masterd/pkg/master/proc"
)

const (
	putLimit    = 200 * time.Millisecond // for the keeper to take what it is given
	answerLimit = 2 * time.Second        // for its answer
	endLimit    = 5 * time.Second        // for the keeper to be gone after End
	againFirst  = 50 * time.Millisecond  // until a keeper that could not be started is started again, at first
	againMost   = 10 * time.Second
	// joinPatience is how long a master that starts tries to get what is held before it
	// goes on without it; a keeper that it gets later is given what there is then.
	joinPatience = 2 * time.Second
)

// Join joins the keeper that is there, or starts one. What it holds is the registry's to
// give. A keeper that is there and does not answer is killed: its socket is in the way.
// Where there is none to be had now, the registry goes on trying. The error is of the
// options alone.
func Join(o Options) (*Registry, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	r := &Registry{o: o, answers: make(chan string, 1), stop: make(chan struct{}), entries: map[string]entry{}}
	k, held, err := o.open()
	for end := time.Now().Add(joinPatience); err != nil && time.Now().Before(end); time.Sleep(againFirst) {
		k, held, err = o.open()
	}
	if err != nil {
		o.Log.Error("no keeper can be joined or started now: what it may hold of an earlier master's is done without",
			zap.Error(err))
		r.done.Go(func() { r.run(r.reopen()) })
		return r, nil
	}
	o.Log.Info("joined the keeper", zap.Int("keeper", k.pid), zap.Int("held", len(held)))
	r.link, r.left, r.inherits = k, held, len(held) > 0
	r.done.Go(func() { r.run(k) })
	return r, nil
}

// PID is the keeper's; zero while there is none.
func (r *Registry) PID() int {
	if k, err := r.current(); err == nil && k != nil {
		return k.pid
	}
	return 0
}

func (r *Registry) current() (*link, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.link, r.ended
}

// Guard has the keeper start the old program should this master's connection end
// and nobody join soon, from now until Unguard or the guard's time is over. A
// guard dies with its keeper.
func (r *Registry) Guard(g Guard) error {
	const what = "ask the keeper for a guard"
	if err := g.check(); err != nil {
		return err
	}
	text, err := order{proc.Octets(g.Args), proc.Octets(g.Env), []byte(g.Dir), g.For, g.JoinWithin}.write()
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	defer text.Close()
	files := []*os.File{g.Program, text}
	if g.Stderr != nil {
		files = append(files, g.Stderr)
	}
	if g.Report != nil {
		files = append(files, g.Report)
	}
	fds := make([]int, len(files))
	for i, f := range files {
		if err := fdpass.Control(f, func(fd int) error { fds[i] = fd; return nil }); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	return r.ask(what, frame{kind: kindGuard}, fds...)
}

// Unguard ends a guard; there need be none.
func (r *Registry) Unguard() error { return r.ask("end the keeper's guard", frame{kind: kindUnguard}) }

func (r *Registry) ask(what string, f frame, fds ...int) error {
	r.asking.Lock()
	defer r.asking.Unlock()
	select {
	case <-r.answers: // of a question that was given up
	default:
	}
	k, err := r.current()
	if err == nil && k == nil {
		err = errors.New("there is none now")
	}
	if err == nil {
		err = k.send(answerLimit, f, fds...)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	select {
	case no := <-r.answers:
		if no != "" {
			return fmt.Errorf("%s: %s", what, no)
		}
		return nil
	case <-time.After(answerLimit):
		return fmt.Errorf("%s: no answer within %s", what, answerLimit)
	}
}

// Leave ends the connection; the keeper goes on.
func (r *Registry) Leave() { r.finish(func(k *link) {}) }

// End has the keeper close everything and exit, and waits until it has. One that
// does not is killed.
func (r *Registry) End() error {
	var err error
	r.mu.Lock()
	r.ending = r.ending || r.ended == nil
	r.mu.Unlock()
	r.finish(func(k *link) {
		if err = k.send(putLimit, frame{kind: kindEnd}); err == nil && !k.gone(endLimit) {
			err = fmt.Errorf("it did not within %s and was killed", endLimit)
		}
		if err != nil {
			err = fmt.Errorf("end the keeper: %w", err)
			k.end()
			_ = os.Remove(r.o.Path)
		}
		k.reap()
	})
	return err
}

// finish takes leave of the keeper, the first time, and waits for the client.
func (r *Registry) finish(last func(*link)) {
	r.mu.Lock()
	k := r.link
	first := r.ended == nil
	if first {
		r.ended = ErrLeft
		close(r.stop)
	}
	r.mu.Unlock()
	if first && k != nil {
		r.filling.Lock() // so that it is given everything, or nothing is taken from it
		last(k)
		k.Close()
		r.filling.Unlock()
	}
	r.done.Wait()
}

// run has a keeper from the first to the last.
func (r *Registry) run(k *link) {
	for k != nil {
		err := r.hear(k)
		if !r.lose(k, err) {
			return
		}
		k = r.reopen()
	}
}

// hear takes what the keeper says, until the connection ends.
func (r *Registry) hear(k *link) error {
	for {
		p, err := k.receive()
		if err != nil {
			return err
		}
		p.close() // nothing more is given after a join
		switch p.kind {
		case kindReplaced:
			return ErrReplaced
		case kindNotKept:
			r.o.Log.Error("the keeper does not hold a descriptor", zap.String("name", p.name),
				zap.String("reason", string(p.meta)))
		case kindAnswer:
			select {
			case r.answers <- string(p.meta):
			default:
			}
		}
	}
}

// lose takes leave of a keeper, and says whether another one is wanted.
func (r *Registry) lose(k *link, why error) bool {
	r.mu.Lock()
	r.link = nil
	if errors.Is(why, ErrReplaced) && r.ended == nil {
		r.ended = ErrReplaced
		close(r.stop)
		r.o.Log.Error(ErrReplaced.Error(), zap.Int("keeper", k.pid))
	}
	over := r.ended != nil
	r.mu.Unlock()
	defer k.release()
	defer k.Close()
	if over {
		return false
	}
	// It is not killed: it may be well, and another master have joined it.
	r.o.Log.Error("the keeper is lost; it is joined again, or another one is started, and given everything",
		zap.Int("keeper", k.pid), zap.Bool("died", k.gone(reapLimit)), zap.Error(why))
	k.reap()
	return true
}

// reopen tries until there is a keeper that holds everything, or the registry ends
// (nil).
func (r *Registry) reopen() *link {
	for wait := againFirst; ; wait = min(2*wait, againMost) {
		k, held, err := r.o.open()
		if err != nil {
			r.o.Log.Error("there is no keeper: should the master die now, sockets and kept state die with it",
				zap.Duration("again in", wait), zap.Error(err))
			select {
			case <-r.stop:
				return nil
			case <-time.After(wait):
			}
			continue
		}
		for _, h := range held {
			fdpass.Discard(h.FD)
		}
		r.mu.Lock()
		over, ending := r.ended != nil, r.ending
		if !over {
			r.filling.Lock()
			r.link = k
		}
		r.mu.Unlock()
		if over {
			if ending || len(held) == 0 { // else it is for the next master
				_ = k.send(putLimit, frame{kind: kindEnd})
			}
			k.Close()
			k.release()
			return nil
		}
		r.o.Log.Info("there is a keeper again", zap.Int("keeper", k.pid))
		r.refill(k, held)
		return k
	}
}
