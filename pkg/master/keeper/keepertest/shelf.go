// Package keepertest stands for the keeper in tests of rooms that have descriptors held.
package keepertest

import (
	"bytes"
	"maps"
	"slices"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/ipc/fdpass"
	"github.com/masterd/masterd/pkg/master/keeper"
)

// Shelf holds what a room puts, as another process would, and fails the test of a room
// that closes a descriptor before it has dropped it or put another one by its name. Its
// methods may be called from any goroutine.
type Shelf struct {
	t    testing.TB
	mu   sync.Mutex
	held map[string]thing
}

// thing is a descriptor on a shelf; its FD is the shelf's own.
type thing struct {
	keeper.Held
	theirs int // the room's number of it; -1: that is another master's
}

// New makes an empty shelf. What is on it is closed at the end of the test.
func New(t testing.TB) *Shelf {
	s := &Shelf{t: t, held: map[string]thing{}}
	t.Cleanup(func() { s.Lose(s.Names()...) })
	return s
}

// Put implements [keeper.Holder].
func (s *Shelf) Put(name string, meta []byte, fd int) { s.put(name, meta, fd, fd) }

// Hold has the shelf hold a duplicate of what is the test's own.
func (s *Shelf) Hold(name string, meta []byte, fd int) { s.put(name, meta, fd, -1) }

func (s *Shelf) put(name string, meta []byte, fd, theirs int) {
	dup := s.duplicate(fd)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop(name)
	s.held[name] = thing{keeper.Held{Name: name, Meta: bytes.Clone(meta), FD: dup}, theirs}
}

// Drop implements [keeper.Holder].
func (s *Shelf) Drop(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop(name)
}

func (s *Shelf) drop(name string) {
	if h, there := s.held[name]; there {
		s.check(h)
		_ = unix.Close(h.FD)
		delete(s.held, name)
	}
}

// Lose drops what a keeper has lost, and no room knows of.
func (s *Shelf) Lose(names ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range names {
		if h, there := s.held[name]; there {
			_ = unix.Close(h.FD)
			delete(s.held, name)
		}
	}
}

// Check fails the test unless another keeper could be given all this now.
func (s *Shelf) Check() {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, h := range s.held {
		s.check(h)
	}
}

func (s *Shelf) check(h thing) {
	s.t.Helper()
	var is, was unix.Stat_t
	if h.theirs < 0 {
		return
	}
	if err := unix.Fstat(h.theirs, &is); err != nil || unix.Fstat(h.FD, &was) != nil || is.Dev != was.Dev ||
		is.Ino != was.Ino {
		s.t.Errorf("%s was put as descriptor %d, which is not what is held: %v", h.Name, h.theirs, err)
	}
}

// All is what the next master is given: duplicates, in no order. The one before has
// ended, and may have closed what it had put.
func (s *Shelf) All() (all []keeper.Held) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, h := range s.held {
		h.theirs = -1
		s.held[name] = h
		h.FD = s.duplicate(h.FD)
		all = append(all, h.Held)
	}
	return all
}

// Of is what is held by a name. The descriptor is the shelf's.
func (s *Shelf) Of(name string) (h keeper.Held, there bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, there := s.held[name]
	return t.Held, there
}

// Names are all names, sorted.
func (s *Shelf) Names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.held))
}

func (s *Shelf) duplicate(fd int) int {
	n, err := fdpass.Duplicate(fd)
	if err != nil {
		s.t.Error(err)
	}
	return n
}
