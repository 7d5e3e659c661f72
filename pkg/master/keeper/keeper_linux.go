package keeper

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/ipc/fdpass"
)

const (
	maxGuests    = 16                     // connections that have not said what they are
	greetLimit   = 5 * time.Second        // for one to say it
	giveLimit    = 5 * time.Second        // for a master to take what it is given
	wordsLimit   = time.Second            // for what a master that is replaced has still sent
	refusedPause = 100 * time.Millisecond // after a connection that could not be accepted
	fdReserve    = 64                     // descriptors that are not for holding
)

// thing is what is held.
type thing struct {
	fd   int
	meta []byte
}

// keeper is the whole state of the process. mu is for the joins and for ends that
// come at once; what is held only the goroutine of the one master touches.
type keeper struct {
	limit int // descriptors that it may hold
	held  map[string]thing

	mu     sync.Mutex
	master *master       // nil: there is none
	joined chan struct{} // closed when the next one joins
	guard  *guard        // nil: there is none
	ended  chan struct{}
}

// master is one that has joined.
type master struct {
	*link
	done chan struct{} // closed when all that it sent was obeyed
}

func newKeeper() *keeper {
	k := &keeper{limit: MaxHeld, held: map[string]thing{}, joined: make(chan struct{}), ended: make(chan struct{})}
	var limit unix.Rlimit
	if unix.Prlimit(0, unix.RLIMIT_NOFILE, nil, &limit) == nil && limit.Cur < MaxHeld+fdReserve {
		k.limit = max(0, int(limit.Cur)-fdReserve)
	}
	return k
}

// accept takes connections until the socket is closed.
func (k *keeper) accept(socket *net.UnixListener) {
	guests := make(chan struct{}, maxGuests)
	for {
		c, err := socket.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(refusedPause) // out of descriptors or memory; never spin
			continue
		}
		guests <- struct{}{}
		go func() { // ends with its connection
			l := k.greet(c)
			<-guests
			if l == nil {
				return
			}
			k.serve(l)
		}()
	}
}

// greet hears a guest's first word. nil: it is no master.
func (k *keeper) greet(c *net.UnixConn) *link {
	l, err := newLink(c)
	if err != nil {
		fdpass.CloseConn(c)
		return nil
	}
	c.SetReadDeadline(time.Now().Add(greetLimit))
	p, err := l.receive()
	p.close()
	if err != nil || l.uid != os.Geteuid() || p.kind != kindJoin || len(p.meta) < 1 {
		fdpass.CloseConn(c)
		l.release()
		return nil
	}
	c.SetReadDeadline(time.Time{})
	return l
}

// serve has a master from its join to its end.
func (k *keeper) serve(l *link) {
	m := &master{link: l, done: make(chan struct{})}
	defer l.Close()
	k.enter(m)
	err := k.give(m)
	for err == nil {
		var p packet
		if p, err = l.receive(); err == nil {
			k.obey(m, &p)
			p.close()
		}
	}
	k.leave(m)
}

// enter makes it the master. What the one before has sent it has sent in time.
func (k *keeper) enter(m *master) {
	k.mu.Lock()
	before := k.master
	k.master = m
	close(k.joined)
	k.joined = make(chan struct{})
	k.mu.Unlock()
	if before == nil {
		return
	}
	select {
	case <-before.done:
	case <-time.After(wordsLimit):
		before.send(wordsLimit, frame{kind: kindReplaced})
		before.Close()
		<-before.done
	}
}

// give sends all that is held.
func (k *keeper) give(m *master) error {
	for _, name := range slices.Sorted(maps.Keys(k.held)) {
		t := k.held[name]
		if err := m.send(giveLimit, frame{kindHeld, name, t.meta}, t.fd); err != nil {
			return err
		}
	}
	return m.send(giveLimit, frame{kind: kindAll, meta: []byte{version}})
}

// leave: its connection has ended.
func (k *keeper) leave(m *master) {
	k.mu.Lock()
	defer k.mu.Unlock()
	close(m.done)
	if k.master != m {
		m.release()
		return
	}
	k.master = nil
	if g := k.guard; g != nil && time.Now().Before(g.until) {
		go k.stand(g, m, k.joined) // ends with the next join, or when the guard's program was started
		return
	}
	m.release()
}

// alone tells whether there is no master.
func (k *keeper) alone() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.master == nil
}

func (k *keeper) obey(m *master, p *packet) {
	switch p.kind {
	case kindPut:
		if err := k.put(p); err != nil {
			m.send(giveLimit, frame{kindNotKept, p.name, why(err)})
		}
	case kindDrop:
		k.drop(p.name)
	case kindGuard:
		m.send(giveLimit, frame{kind: kindAnswer, meta: why(k.setGuard(m, p))})
	case kindUnguard:
		k.unguard()
		m.send(giveLimit, frame{kind: kindAnswer})
	case kindEnd:
		close(k.ended)
		select {} // the exit closes everything
	}
}

// put holds a descriptor. What it cannot replace it drops: nothing is better
// than something that is not true any more.
func (k *keeper) put(p *packet) error {
	k.drop(p.name)
	switch {
	case p.cut:
		return fmt.Errorf("the keeper may not open more descriptors than the %d that it holds: raise the limit of open "+
			"files", len(k.held))
	case len(p.fds) != 1:
		return fmt.Errorf("it came with %d descriptors", len(p.fds))
	case len(k.held) >= k.limit:
		return errors.New("the keeper has no room for more: raise the limit of open files")
	}
	k.held[p.name] = thing{p.fds[0], p.meta}
	p.fds = nil
	return nil
}

func (k *keeper) drop(name string) {
	if t, ok := k.held[name]; ok {
		fdpass.Discard(t.fd) // a worker may have made it
		delete(k.held, name)
	}
}
