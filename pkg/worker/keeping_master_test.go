//go:build linux

package worker

import (
	"context"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/ipc/fdpass"
	"github.com/masterd/masterd/pkg/worker/internal/tasks"
)

// keepingMaster is as much of a master as keeping needs. What it does with a
// request can be changed.
type keepingMaster struct {
	t    *testing.T
	path string

	mu     sync.Mutex
	keeps  bool
	socket *ipc.Socket
	link   *ipc.Link
	blobs  map[string]ipc.Blob
	fds    map[string]int
	last   uint64
	times  []time.Time                   // of the requests
	answer func(m ipc.Message) (no bool) // false: as ever
	tasks  tasks.Group
}

func newKeepingMaster(t *testing.T) *keepingMaster {
	k := &keepingMaster{t: t, path: filepath.Join(t.TempDir(), "c"), keeps: true, blobs: map[string]ipc.Blob{}, fds: map[string]int{}, last: 1000}
	k.start()
	t.Cleanup(func() {
		k.stop()
		k.tasks.Wait()
		for _, fd := range k.fds {
			unix.Close(fd)
		}
	})
	return k
}

func (k *keepingMaster) start() {
	s, err := ipc.Listen(k.path, 0o600, -1, -1)
	if err != nil {
		k.t.Fatal(err)
	}
	k.mu.Lock()
	k.socket = s
	k.mu.Unlock()
	k.tasks.Go(func() {
		for {
			link, _, err := s.Accept()
			if err != nil {
				return
			}
			k.tasks.Go(func() { k.serve(link) })
		}
	})
}

// stop is the master's death.
func (k *keepingMaster) stop() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.socket.Close()
	if k.link != nil {
		k.link.Close()
	}
}

// hangUp ends the connection alone.
func (k *keepingMaster) hangUp() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.link.Close()
}

func (k *keepingMaster) serve(link *ipc.Link) {
	defer link.Close()
	if m, _, err := link.Recv(); err != nil || m.Type != ipc.TypeHello {
		return
	}
	k.mu.Lock()
	k.link = link
	welcome := &ipc.Welcome{Version: 1, Service: "shop", BeatMS: 1000, Keeps: k.keeps}
	k.mu.Unlock()
	link.Send(ipc.Message{Type: ipc.TypeWelcome, Welcome: welcome})
	for {
		m, fds, err := link.Recv()
		if err != nil {
			return
		}
		if m.Blob != nil {
			k.follow(link, m, fds)
		}
	}
}

func (k *keepingMaster) follow(link *ipc.Link, m ipc.Message, fds []int) {
	k.mu.Lock()
	k.times = append(k.times, time.Now())
	answer := k.answer
	k.mu.Unlock()
	if answer != nil && answer(m) {
		fdpass.Close(fds...)
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	old, there := k.blobs[m.Blob.Name]
	switch m.Type {
	case ipc.TypeFetch:
		if !there {
			link.Send(ipc.Message{Type: ipc.TypeBlob, Seq: m.Seq, Blob: &ipc.Blob{Name: m.Blob.Name, None: true}})
			return
		}
		link.Send(ipc.Message{Type: ipc.TypeBlob, Seq: m.Seq, Blob: &old}, k.fds[m.Blob.Name])
	case ipc.TypeForget:
		if there {
			unix.Close(k.fds[m.Blob.Name])
			delete(k.blobs, m.Blob.Name)
			delete(k.fds, m.Blob.Name)
		}
		link.Send(ipc.Message{Type: ipc.TypeKept, Seq: m.Seq, Blob: &ipc.Blob{Name: m.Blob.Name}})
	case ipc.TypeKeep:
		if err := ipc.CheckSealed(fds[0], m.Blob.Size); err != nil {
			k.t.Errorf("kept: %v", err)
		}
		if m.Blob.New && there || m.Blob.If != 0 && m.Blob.If != old.Revision {
			fdpass.Close(fds...)
			link.Send(ipc.Message{Type: ipc.TypeKept, Seq: m.Seq, Blob: &ipc.Blob{Name: m.Blob.Name, Revision: old.Revision, Changed: true}})
			return
		}
		if there {
			unix.Close(k.fds[m.Blob.Name])
		}
		k.last++
		k.fds[m.Blob.Name] = fds[0]
		k.blobs[m.Blob.Name] = ipc.Blob{Name: m.Blob.Name, Size: m.Blob.Size, Revision: k.last, Persist: m.Blob.Persist}
		link.Send(ipc.Message{Type: ipc.TypeKept, Seq: m.Seq, Blob: &ipc.Blob{Name: m.Blob.Name, Revision: k.last}})
	}
}

func (k *keepingMaster) kept(name string) ipc.Blob {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.blobs[name]
}

func (k *keepingMaster) answers(f func(ipc.Message) bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.answer = f
}

// worker runs one under this master.
func (k *keepingMaster) worker() *running {
	k.t.Helper()
	w := workerWith(k.t, Options{}, map[string]string{
		ipc.EnvControl: k.path, ipc.EnvWorker: "7", ipc.EnvSecret: "s3cret", ipc.EnvGeneration: "3", ipc.EnvService: "shop", ipc.EnvVersion: "v1"})
	w.OnActive(func(context.Context) {})
	return run(k.t, w)
}
