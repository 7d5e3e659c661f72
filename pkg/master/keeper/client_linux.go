package keeper

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/ipc"
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

// Client is a master's connection to its keeper. Its methods may be called from
// any goroutine.
type Client struct {
	o       Options
	asking  sync.Mutex // one question at a time
	filling sync.Mutex // held while a keeper is given everything
	answers chan string
	stop    chan struct{}
	done    sync.WaitGroup

	mu     sync.Mutex
	link   *link           // nil: there is none now
	ended  error           // why nothing goes any more
	ending bool            // and the keeper ends, too
	given  map[string]bool // names of what a refill has given so far; nil: there is none under way
}

// Join joins the keeper that is there, or starts one, and returns what it holds.
// A keeper that is there and does not answer is killed: its socket is in the way.
// Where there is none to be had now, the client goes on trying: it has no keeper, and
// then Refill comes. The error is of the options alone.
func Join(o Options) (*Client, []Held, error) {
	if err := o.check(); err != nil {
		return nil, nil, err
	}
	c := &Client{o: o, answers: make(chan string, 1), stop: make(chan struct{})}
	k, held, err := o.open()
	for end := time.Now().Add(joinPatience); err != nil && time.Now().Before(end); time.Sleep(againFirst) {
		k, held, err = o.open()
	}
	if err != nil {
		o.Log.Error("no keeper can be joined or started now: what it may hold of an earlier master's is done without", zap.Error(err))
		c.done.Go(func() { c.run(c.reopen()) })
		return c, nil, nil
	}
	o.Log.Info("joined the keeper", zap.Int("keeper", k.pid), zap.Int("held", len(held)))
	c.link = k
	c.done.Go(func() { c.run(k) })
	return c, held, nil
}

// PID is the keeper's; zero while there is none.
func (c *Client) PID() int {
	if k, err := c.current(); err == nil && k != nil {
		return k.pid
	}
	return 0
}

func (c *Client) current() (*link, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.link, c.ended
}

// Put has the keeper hold fd by this name, instead of what it held by it. fd
// stays the caller's, who may close it at once: what Put has returned from will
// be obeyed, whatever happens to the master. A keeper that takes nothing for
// 200 ms is killed; another one is started, and Refill called. While there is
// none, Put does nothing: Refill comes.
func (c *Client) Put(name string, meta []byte, fd int) error {
	return c.say("hold "+name, frame{kindPut, name, meta}, fd)
}

// Drop has the keeper close what it holds by this name, if anything.
func (c *Client) Drop(name string) error {
	return c.say("drop "+name, frame{kind: kindDrop, name: name})
}

func (c *Client) say(what string, f frame, fds ...int) error {
	if err := checkHeld(f.name, f.meta); err != nil {
		return fmt.Errorf("have the keeper %.100s: %w", what, err)
	}
	k, err := c.current()
	if err != nil {
		return fmt.Errorf("have the keeper %s: %w", what, err)
	}
	if k == nil {
		return nil
	}
	c.note(f)
	switch err := k.send(putLimit, f, fds...); {
	case errors.Is(err, unix.EBADF):
		return fmt.Errorf("have the keeper %s: descriptor %v: %w", what, fds, err)
	case errors.Is(err, os.ErrDeadlineExceeded):
		c.o.Log.Error("the keeper does not take what it is given and is killed", zap.Int("keeper", k.pid), zap.Error(err))
		k.kill()
	}
	return nil // of a connection that is broken hear knows, and Refill comes
}

// note remembers what a refill has given.
func (c *Client) note(f frame) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.given != nil && f.kind == kindPut {
		c.given[f.name] = true
	}
}

// Guard has the keeper start the old program should this master's connection end
// and nobody join soon, from now until Unguard or the guard's time is over. A
// guard dies with its keeper.
func (c *Client) Guard(g Guard) error {
	const what = "ask the keeper for a guard"
	if err := g.check(); err != nil {
		return err
	}
	text, err := order{octets(g.Args), octets(g.Env), []byte(g.Dir), g.For, g.JoinWithin}.write()
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
		raw, err := f.SyscallConn() // Fd would make the file blocking
		if err == nil {
			err = raw.Control(func(fd uintptr) { fds[i] = int(fd) })
		}
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	return c.ask(what, frame{kind: kindGuard}, fds...)
}

// Unguard ends a guard; there need be none.
func (c *Client) Unguard() error { return c.ask("end the keeper's guard", frame{kind: kindUnguard}) }

func (c *Client) ask(what string, f frame, fds ...int) error {
	c.asking.Lock()
	defer c.asking.Unlock()
	select {
	case <-c.answers: // of a question that was given up
	default:
	}
	k, err := c.current()
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
	case no := <-c.answers:
		if no != "" {
			return fmt.Errorf("%s: %s", what, no)
		}
		return nil
	case <-time.After(answerLimit):
		return fmt.Errorf("%s: no answer within %s", what, answerLimit)
	}
}

// Leave ends the connection; the keeper goes on.
func (c *Client) Leave() { c.finish(func(k *link) {}) }

// End has the keeper close everything and exit, and waits until it has. One that
// does not is killed.
func (c *Client) End() error {
	var err error
	c.mu.Lock()
	c.ending = c.ending || c.ended == nil
	c.mu.Unlock()
	c.finish(func(k *link) {
		if err = k.send(putLimit, frame{kind: kindEnd}); err == nil && !k.gone(endLimit) {
			err = fmt.Errorf("it did not within %s and was killed", endLimit)
		}
		if err != nil {
			err = fmt.Errorf("end the keeper: %w", err)
			k.end()
			_ = os.Remove(c.o.Path)
		}
		k.reap()
	})
	return err
}

// finish takes leave of the keeper, the first time, and waits for the client.
func (c *Client) finish(last func(*link)) {
	c.mu.Lock()
	k := c.link
	first := c.ended == nil
	if first {
		c.ended = ErrLeft
		close(c.stop)
	}
	c.mu.Unlock()
	if first && k != nil {
		c.filling.Lock() // so that it is given everything, or nothing is taken from it
		last(k)
		k.Close()
		c.filling.Unlock()
	}
	c.done.Wait()
}

// run has a keeper from the first to the last.
func (c *Client) run(k *link) {
	for k != nil {
		err := c.hear(k)
		if !c.lose(k, err) {
			return
		}
		k = c.reopen()
	}
}

// hear takes what the keeper says, until the connection ends.
func (c *Client) hear(k *link) error {
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
			c.o.Log.Error("the keeper does not hold a descriptor", zap.String("name", p.name), zap.String("reason", string(p.meta)))
		case kindAnswer:
			select {
			case c.answers <- string(p.meta):
			default:
			}
		}
	}
}

// lose takes leave of a keeper, and says whether another one is wanted.
func (c *Client) lose(k *link, why error) bool {
	c.mu.Lock()
	c.link = nil
	if errors.Is(why, ErrReplaced) && c.ended == nil {
		c.ended = ErrReplaced
		close(c.stop)
		c.o.Log.Error(ErrReplaced.Error(), zap.Int("keeper", k.pid))
	}
	over := c.ended != nil
	c.mu.Unlock()
	defer k.release()
	defer k.Close()
	if over {
		return false
	}
	// It is not killed: it may be well, and another master have joined it.
	c.o.Log.Error("the keeper is lost; it is joined again, or another one is started, and given everything",
		zap.Int("keeper", k.pid), zap.Bool("died", k.gone(reapLimit)), zap.Error(why))
	k.reap()
	return true
}

// reopen tries until there is a keeper that holds everything, or the client ends
// (nil).
func (c *Client) reopen() *link {
	for wait := againFirst; ; wait = min(2*wait, againMost) {
		k, held, err := c.o.open()
		if err != nil {
			c.o.Log.Error("there is no keeper: should the master die now, sockets and kept state die with it", zap.Duration("again in", wait), zap.Error(err))
			select {
			case <-c.stop:
				return nil
			case <-time.After(wait):
			}
			continue
		}
		for _, h := range held {
			ipc.Discard(h.FD)
		}
		c.mu.Lock()
		over, ending := c.ended != nil, c.ending
		if !over {
			c.filling.Lock()
			c.link, c.given = k, map[string]bool{}
		}
		c.mu.Unlock()
		if over {
			if ending || len(held) == 0 { // else it is for the next master
				_ = k.send(putLimit, frame{kind: kindEnd})
			}
			k.Close()
			k.release()
			return nil
		}
		c.o.Log.Info("there is a keeper again", zap.Int("keeper", k.pid))
		c.refill(k, held)
		return k
	}
}

// refill has a keeper hold what there is now, and nothing of before; filling is
// held. Nothing is dropped of one that could not be given everything anew: the master ends.
func (c *Client) refill(k *link, before []Held) {
	defer c.filling.Unlock()
	whole := c.o.Refill != nil && c.o.Refill()
	c.mu.Lock()
	given := c.given
	c.given = nil
	c.mu.Unlock()
	for _, h := range before {
		if whole && !given[h.Name] {
			_ = k.send(putLimit, frame{kind: kindDrop, name: h.Name})
		}
	}
}
