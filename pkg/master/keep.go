package master

import (
	"fmt"
	"path/filepath"
	"time"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/master/blob"
	"github.com/masterd/masterd/pkg/master/session"
	"github.com/masterd/masterd/pkg/master/state"
)

// State survives its worker: what workers ask to be kept is here until the
// service stops, and who asks gets the last of it. It is memory that they made
// and sealed; the master holds a descriptor and looks at nothing in it.
//
// Who may change a blob that somebody else has kept:
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

const (
	blobsDir   = "blobs" // in the state directory
	blobPrefix = "blob/" // begins what the keeper calls them
	// storeTimeout bounds how long the end of a master waits for what is to
	// outlive it to be written.
	storeTimeout = 30 * time.Second
)

// hear takes what a worker says, in its session's goroutine. What was sent to
// be kept is looked at here: it may be any descriptor.
func (m *Master) hear(w *worker, f session.Fact) {
	if f.Kind != session.Keep {
		m.at(func() { m.said(w, f) })
		return
	}
	if unfit := fit(f); unfit != nil {
		ipc.DiscardWait(m.done, f.FD)
		m.at(func() { m.refuseBlob(w, f, unfit) })
		return
	}
	m.post(func() { m.keep(w, f) }, func() { blob.Release(f.FD) })
}

// fit says what is wrong with what came to be kept.
func fit(f session.Fact) error {
	if err := ipc.CheckBlobName(f.Blob.Name); err != nil {
		return err
	}
	if err := ipc.CheckSealed(f.FD, f.Blob.Size); err != nil {
		return fmt.Errorf("keeping %s: what came with the message is not fit: %w", f.Blob.Name, err)
	}
	return nil
}

// keep keeps what a worker sent, or says why not.
func (m *Master) keep(w *worker, f session.Fact) {
	if m.workers[w.id] != w { // it has been replaced meanwhile: its replacement has read another
		blob.Release(f.FD)
		return
	}
	old, there := m.blobs.Get(f.Blob.Name)
	if changed, err := m.mayChange(w, f.Blob, old, there); changed || err != nil {
		blob.Release(f.FD)
		m.unchanged(w, f, old, err)
		return
	}
	revision, replaced, err := m.blobs.Keep(blob.Blob{
		Name: f.Blob.Name, Size: f.Blob.Size, FD: f.FD, Persist: f.Blob.Persist, Generation: uint64(w.generation.id), Since: time.Now(),
	}, blob.Limits(m.cfg.State))
	if err != nil {
		blob.Release(f.FD)
		m.refuseBlob(w, f, err)
		return
	}
	if replaced >= 0 {
		blob.Release(replaced)
	}
	m.outdate(old)
	m.answered(w, w.session.Kept(f.Seq, ipc.Blob{Name: f.Blob.Name, Revision: revision}))
}

// fetch hands a kept blob to a worker.
func (m *Master) fetch(w *worker, f session.Fact) {
	if err := ipc.CheckBlobName(f.Blob.Name); err != nil {
		m.refuseBlob(w, f, err)
		return
	}
	b, there := m.blobs.Get(f.Blob.Name)
	if !there {
		m.answered(w, w.session.Blob(f.Seq, ipc.Blob{Name: f.Blob.Name, None: true}, -1))
		return
	}
	m.answered(w, w.session.Blob(f.Seq, ipc.Blob{Name: b.Name, Size: b.Size, Revision: b.Revision}, b.FD))
}

// forget lets a blob go.
func (m *Master) forget(w *worker, f session.Fact) {
	if err := ipc.CheckBlobName(f.Blob.Name); err != nil {
		m.refuseBlob(w, f, err)
		return
	}
	old, there := m.blobs.Get(f.Blob.Name)
	if changed, err := m.mayChange(w, f.Blob, old, there); changed || err != nil {
		m.unchanged(w, f, old, err)
		return
	}
	if fd := m.blobs.Forget(f.Blob.Name); fd >= 0 {
		blob.Release(fd)
	}
	m.outdate(old)
	m.answered(w, w.session.Kept(f.Seq, ipc.Blob{Name: f.Blob.Name}))
}

// mayChange says whether a blob has changed against the condition of who wants
// to change it, or why that worker may not at all. See the rule above.
func (m *Master) mayChange(w *worker, wish *ipc.Blob, old blob.Blob, there bool) (changed bool, err error) {
	g := w.generation
	switch {
	case wish.New && there, wish.If != 0 && old.Revision != wish.If:
		return true, nil
	case !there || old.Generation == uint64(g.id):
	case !g.activated:
		return false, fmt.Errorf("%s is generation %d's, and generation %d has not been active yet: until then it may only keep what nobody else does", wish.Name, old.Generation, g.id)
	case w.parkedAt != 0 && old.Revision > w.parkedAt && !wish.Conditional():
		return false, fmt.Errorf("generation %d has kept %s since generation %d was told to park", old.Generation, wish.Name, g.id)
	}
	return false, nil
}

// unchanged answers what was not done.
func (m *Master) unchanged(w *worker, f session.Fact, old blob.Blob, err error) {
	if err != nil {
		m.refuseBlob(w, f, err)
		return
	}
	m.answered(w, w.session.Kept(f.Seq, ipc.Blob{Name: f.Blob.Name, Revision: old.Revision, Changed: true}))
}

// refuseBlob answers with the reason, and tells the operator.
func (m *Master) refuseBlob(w *worker, f session.Fact, why error) {
	m.warn(w, "refused a worker's "+f.Kind.String()+" of state", zap.Error(why))
	m.answered(w, w.session.Refuse(f.Seq, why.Error()))
}

// answered notes an answer that could not be given: the worker asks again when
// it has connected again.
func (m *Master) answered(w *worker, err error) {
	if err != nil {
		m.log.Debug("a worker's request for kept state could not be answered", append(m.fields(w), zap.Error(err))...)
	}
}

// toldActive notes that a worker was told that it is active; toldToPark, that
// it was told to park or to leave.
func (m *Master) toldActive(w *worker) { w.generation.activated, w.parkedAt = true, 0 }

func (m *Master) toldToPark(w *worker) {
	if w.parkedAt == 0 {
		w.parkedAt = m.blobs.Revision()
	}
}

// dropBlobsOf lets go of what a generation that was never active has kept for
// itself: it leaves no trace.
func (m *Master) dropBlobsOf(g *generation) {
	for _, b := range m.blobs.List() {
		if g.activated || b.Generation != uint64(g.id) {
			continue
		}
		blob.Release(m.blobs.Forget(b.Name))
	}
}

func (m *Master) blobsPath() string { return filepath.Join(m.opt.Config.StateDir, blobsDir) }

// outdate removes what an earlier stop has written of a blob that is no longer
// what is kept. Were it left until the next stop, a master that dies before that
// would bring back something older: sessions that were ended, say.
func (m *Master) outdate(old blob.Blob) {
	if old.Filed {
		m.queueDisk("kept state", func() error { return blob.Drop(m.blobsPath(), old.Name) })
	}
}

// inheritBlobs takes over what the keeper holds, and has it hold what is kept from
// now on. Where it held nothing at all, what the last stop has written is read.
func (m *Master) inheritBlobs(left *state.Live, held []blob.Held, kept bool) {
	for _, err := range m.blobs.Adopt(held) {
		m.log.Error("state that was kept cannot be taken over", zap.Error(err))
	}
	if left != nil {
		m.blobs.Above(left.Revision)
	}
	m.blobs.Mirror(blob.Mirror{
		Keep: func(name string, meta []byte, fd int) { m.hold(blobPrefix+name, meta, fd) },
		Drop: func(name string) { m.drop(blobPrefix + name) },
	})
	if !kept {
		m.loadBlobs()
		return
	}
	// The last master may have died before it removed the file of what was kept
	// anew since: nothing older is to come back.
	err := blob.Prune(m.blobsPath(), func(name string) bool {
		b, ok := m.blobs.Get(name)
		return ok && b.Filed
	})
	if err != nil {
		m.log.Error("state that an earlier stop has written and that has changed since cannot be removed", zap.Error(err))
	}
}

// loadBlobs takes over what the last stop has written. What cannot be costs
// that state, never the service.
func (m *Master) loadBlobs() {
	limits := blob.Limits(m.cfg.State)
	all, err := blob.Load(m.blobsPath(), limits)
	if err != nil {
		m.log.Error("state that was kept across the stop cannot be taken over; going on without it", zap.Error(err))
	}
	for _, b := range all {
		b.Generation = 0 // numbers may begin anew: it is nobody's of this run
		if _, _, err := m.blobs.Keep(b, limits); err != nil {
			m.log.Error("state that was kept across the stop cannot be taken over; going on without it", zap.Error(err))
			blob.Release(b.FD)
		}
	}
}

// storeBlobs writes what is to outlive the stop, by the disk goroutine: what is
// removed is removed before. A disk that is full costs that state and a line in
// the log; one that hangs does not keep the master from ending.
func (m *Master) storeBlobs() {
	all := m.blobs.List()
	written := make(chan struct{})
	limit := time.NewTimer(storeTimeout)
	defer limit.Stop()
	write := func() {
		defer close(written)
		if err := blob.Store(m.blobsPath(), all); err != nil {
			m.log.Error("state that was to be kept across the stop is not, or not all of it", zap.Error(err))
		}
	}
	if !m.disk.put(call{do: write}, limit.C) {
		m.log.Error("state that was to be kept across the stop is not: the disk does not keep up", zap.Duration("waited", storeTimeout))
		return
	}
	select {
	case <-written:
		m.blobs.Close()
	case <-limit.C:
		m.log.Error("masterd ends without waiting for the disk; state that was to be kept across the stop may be lost", zap.Duration("waited", storeTimeout))
	}
}
