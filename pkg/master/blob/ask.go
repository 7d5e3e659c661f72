package blob

import (
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/master/keeper"
)

// What workers ask for, and who may change a blob that somebody else has kept:
//
//	a generation that was never active   no: a version that fails its checks leaves no trace
//	                                     (what it has kept for itself goes with it)
//	an active one                        yes
//	one that is parked or draining       yes, but not over what another has kept since it was
//	                                     told to park: what it still had to write is not lost,
//	                                     and it does not undo what has come after it
//
// A change made on condition that nothing has changed meanwhile is let through
// for the last: it was made on top of what is there. After a rollback the sides
// have changed, and the same rule holds. A blob that nobody keeps, or that its
// own generation has kept, anybody may keep.

// Worker is one that asks.
type Worker struct {
	Generation uint64
	Activated  bool   // a worker of its generation was told that it is active, once
	ParkedAt   uint64 // Revision when it was told to park or to leave; zero: it was not
}

// Fit says what is wrong with a descriptor that came to be kept; nil: nothing. It may
// take as long as whoever made the descriptor likes.
func Fit(b ipc.Blob, fd int) error {
	if err := ipc.CheckBlobName(b.Name); err != nil {
		return err
	}
	if err := ipc.CheckSealed(fd, b.Size); err != nil {
		return fmt.Errorf("keeping %s: what came with the message is not fit: %w", b.Name, err)
	}
	return nil
}

// KeepFor keeps memory that is [Fit] for a worker, and returns what the worker is told.
// The descriptor is the set's, whatever comes of it.
func (r *Set) KeepFor(w Worker, b ipc.Blob, fd int, l Limits) (ipc.Blob, error) {
	old, changed, err := r.mayChange(w, b)
	if changed || err != nil {
		Release(fd)
		return ipc.Blob{Name: b.Name, Revision: old.Revision, Changed: changed}, err
	}
	revision, replaced, err := r.Keep(Blob{
		Name: b.Name, Size: b.Size, FD: fd, Persist: b.Persist, Generation: w.Generation, Since: time.Now(),
	}, l)
	if err != nil {
		Release(fd)
		return ipc.Blob{}, err
	}
	if replaced >= 0 {
		Release(replaced)
	}
	r.outdate(old)
	return ipc.Blob{Name: b.Name, Revision: revision}, nil
}

// Fetch is what a worker is told of a blob, with its descriptor, which stays the set's;
// -1: nobody keeps it.
func (r *Set) Fetch(name string) (ipc.Blob, int, error) {
	if err := ipc.CheckBlobName(name); err != nil {
		return ipc.Blob{}, -1, err
	}
	b, there := r.blobs[name]
	if !there {
		return ipc.Blob{Name: name, None: true}, -1, nil
	}
	return ipc.Blob{Name: b.Name, Size: b.Size, Revision: b.Revision}, b.FD, nil
}

// ForgetFor lets a blob go for a worker, and returns what the worker is told.
func (r *Set) ForgetFor(w Worker, b ipc.Blob) (ipc.Blob, error) {
	if err := ipc.CheckBlobName(b.Name); err != nil {
		return ipc.Blob{}, err
	}
	old, changed, err := r.mayChange(w, b)
	if changed || err != nil {
		return ipc.Blob{Name: b.Name, Revision: old.Revision, Changed: changed}, err
	}
	if fd := r.Forget(b.Name); fd >= 0 {
		Release(fd)
	}
	r.outdate(old)
	return ipc.Blob{Name: b.Name}, nil
}

// ForgetGeneration lets go of what a generation that was never active has kept for itself.
func (r *Set) ForgetGeneration(id uint64) {
	for _, b := range r.List() {
		if b.Generation == id {
			Release(r.Forget(b.Name))
		}
	}
}

// mayChange finds what is kept by a name, and says whether it has changed against the
// condition of who wants to change it, or why that worker may not at all.
func (r *Set) mayChange(w Worker, want ipc.Blob) (old Blob, changed bool, err error) {
	old, there := r.blobs[want.Name]
	switch {
	case want.New && there, want.If != 0 && old.Revision != want.If:
		return old, true, nil
	case !there || old.Generation == w.Generation:
	case !w.Activated:
		err = fmt.Errorf("%s is generation %d's, and generation %d has not been active yet: until then it may only keep "+
			"what nobody else does", want.Name, old.Generation, w.Generation)
	case w.ParkedAt != 0 && old.Revision > w.ParkedAt && !want.Conditional():
		err = fmt.Errorf("generation %d has kept %s since generation %d was told to park", old.Generation, want.Name,
			w.Generation)
	}
	return old, false, err
}

// outdate removes what an earlier stop has written of a blob that is no longer
// what is kept. Were it left until the next stop, a master that dies before that
// would bring back something older: sessions that were ended, say.
func (r *Set) outdate(old Blob) {
	if old.Filed {
		r.disk.Later(func() error { return Drop(r.disk.Dir, old.Name) })
	}
}

// Disk is where blobs outlive a stop.
type Disk struct {
	Dir   string
	Later func(write func() error) // has it done by whoever writes to the disk, one after the other
}

// Inherit takes over what the keeper has held for an earlier master, and has it hold what
// there is from now on. Where it held nothing at all (!kept), what the last stop has written is read.
// What cannot be taken over costs that state, never the service.
func (r *Set) Inherit(held []keeper.Held, kept bool, d Disk, k keeper.Holder, l Limits, log *zap.Logger) {
	r.disk = d
	for _, err := range r.Adopt(held) {
		log.Error("state that was kept cannot be taken over", zap.Error(err))
	}
	r.keeper = k
	for _, b := range r.List() {
		r.hold(b)
	}
	if kept {
		// The last master may have died before it removed the file of what was kept
		// anew since: nothing older is to come back.
		if err := Prune(d.Dir, func(name string) bool { return r.blobs[name].Filed }); err != nil {
			log.Error("state that an earlier stop has written and that has changed since cannot be removed", zap.Error(err))
		}
		return
	}
	lost := func(err error) {
		log.Error("state that was kept across the stop cannot be taken over; going on without it", zap.Error(err))
	}
	all, err := Load(d.Dir, l)
	if err != nil {
		lost(err)
	}
	for _, b := range all {
		b.Generation = 0 // numbers may begin anew: it is nobody's of this run
		if _, _, err := r.Keep(b, l); err != nil {
			lost(err)
			Release(b.FD)
		}
	}
}
