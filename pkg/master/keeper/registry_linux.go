package keeper

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/ipc/fdpass"
)

// Registry is what a master has its keeper hold, by name. It remembers the descriptors
// that were put, by their numbers: a keeper that takes the place of one that has died is
// given all of them, and one that was lost for a moment drops what is no more. Its methods
// may be called from any goroutine.
type Registry struct {
	o       Options
	asking  sync.Mutex // one question at a time
	filling sync.Mutex // held while a keeper is given everything
	answers chan string
	stop    chan struct{}
	done    sync.WaitGroup

	// telling is held while the keeper is told of an entry: it hears of one in the order of
	// the table. It is taken before mu.
	telling  sync.Mutex
	entries  map[string]entry // what was put
	left     []Held           // by an earlier master, and nobody has taken it yet
	inherits bool

	mu     sync.Mutex
	link   *link // nil: there is none now
	ended  error // why nothing goes any more
	ending bool  // and the keeper ends, too
}

// entry is one descriptor; fd is the number of whoever has put it.
type entry struct {
	meta []byte
	fd   int
}

// Inherits tells whether there was anything of an earlier master's.
func (r *Registry) Inherits() bool { return r.inherits }

// Take gives what an earlier master had held by names that begin so, in their order. The
// descriptors are the caller's. The keeper holds them until the caller has put others by
// their names, or drops those.
func (r *Registry) Take(prefix string) (all []Held) {
	r.telling.Lock()
	defer r.telling.Unlock()
	r.left = slices.DeleteFunc(r.left, func(h Held) bool {
		if strings.HasPrefix(h.Name, prefix) {
			all = append(all, h)
			return true
		}
		return false
	})
	return all
}

// TakeOne is Take of exactly one name.
func (r *Registry) TakeOne(name string) (fd int, there bool) {
	r.telling.Lock()
	defer r.telling.Unlock()
	i := slices.IndexFunc(r.left, func(h Held) bool { return h.Name == name })
	if i < 0 {
		return -1, false
	}
	fd = r.left[i].FD
	r.left = slices.Delete(r.left, i, i+1)
	return fd, true
}

// Rest lets go of what nobody has taken, and returns the names.
func (r *Registry) Rest() (names []string) {
	for _, h := range r.Take("") {
		fdpass.Discard(h.FD)
		r.Drop(h.Name)
		names = append(names, h.Name)
	}
	return names
}

// Put implements [Holder]. A keeper that takes nothing for 200 ms is killed, and another
// one started. What Put has returned from the keeper will hold, whatever happens to the
// master; while there is none, the next one is given it.
func (r *Registry) Put(name string, meta []byte, fd int) {
	if err := r.put(name, meta, fd); err != nil {
		r.o.Log.Warn("the keeper cannot be given something", zap.String("name", name), zap.Error(err))
	}
}

// Drop implements [Holder].
func (r *Registry) Drop(name string) {
	if err := r.drop(name); err != nil {
		r.o.Log.Warn("the keeper cannot be told to let something go", zap.String("name", name), zap.Error(err))
	}
}

func (r *Registry) put(name string, meta []byte, fd int) error {
	r.telling.Lock()
	defer r.telling.Unlock()
	r.entries[name] = entry{meta, fd}
	err := r.say(name)
	if err != nil { // there is no such descriptor
		delete(r.entries, name)
	}
	return err
}

func (r *Registry) drop(name string) error {
	r.telling.Lock()
	defer r.telling.Unlock()
	delete(r.entries, name)
	return r.say(name)
}

// say tells the keeper what there is by a name now: it holds that, or nothing.
func (r *Registry) say(name string) error {
	what := "drop"
	e, there := r.entries[name]
	if there {
		what = "hold"
	}
	k, err := r.current()
	if bad := checkHeld(name, e.meta); bad != nil {
		err = bad
	}
	if err != nil {
		return fmt.Errorf("have the keeper %s %.100s: %w", what, name, err)
	}
	if k == nil {
		return nil
	}
	return r.tell(k, name)
}

// tell is say to one keeper. Of a connection that is broken hear knows.
func (r *Registry) tell(k *link, name string) error {
	f, fds := frame{kind: kindDrop, name: name}, []int(nil)
	if e, there := r.entries[name]; there {
		f, fds = frame{kindPut, name, e.meta}, []int{e.fd}
	}
	switch err := k.send(putLimit, f, fds...); {
	case errors.Is(err, unix.EBADF):
		return fmt.Errorf("have the keeper hold %s: descriptor %v: %w", name, fds, err)
	case errors.Is(err, os.ErrDeadlineExceeded):
		r.o.Log.Error("the keeper does not take what it is given and is killed", zap.Int("keeper", k.pid), zap.Error(err))
		k.kill()
	}
	return nil
}

// refill has a keeper hold what there is now, and nothing of before; filling is held.
// Nothing is dropped of one that is not given everything anew: the master ends.
func (r *Registry) refill(k *link, before []Held) {
	defer r.filling.Unlock()
	if r.o.Ready != nil && !r.o.Ready() {
		return
	}
	r.telling.Lock()
	names := slices.Collect(maps.Keys(r.entries))
	r.telling.Unlock()
	for _, h := range before {
		names = append(names, h.Name)
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		r.telling.Lock() // for each one anew: who puts does not wait for all
		if err := r.tell(k, name); err != nil {
			delete(r.entries, name)
			r.o.Log.Warn("the keeper cannot be given something", zap.String("name", name), zap.Error(err))
		}
		r.telling.Unlock()
	}
}

// Settle waits until a keeper that is being given everything has it. Once Ready says no,
// nothing is given any more, and what was put may be closed without being dropped.
func (r *Registry) Settle() {
	r.filling.Lock()
	defer r.filling.Unlock()
}
