package session

import (
	"fmt"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/ipc/fdpass"
)

// What a worker asks of its master. It counts its own requests, and the answers
// repeat that; nothing here looks at what is kept.

// requestKind says which fact a worker's request is; false: it is none.
func requestKind(t ipc.Type) (Kind, bool) {
	switch t {
	case ipc.TypeKeep:
		return Keep, true
	case ipc.TypeFetch:
		return Fetch, true
	case ipc.TypeForget:
		return Forget, true
	}
	return 0, false
}

// request tells of a request. The descriptors are the callback's, if there is one
// to take them: one on a keep, none on the others.
func (s *Session) request(kind Kind, m ipc.Message, fds []int) {
	s.mu.Lock()
	gone := s.gone
	s.mu.Unlock()
	if gone || s.expect.Fact == nil {
		fdpass.Discard(fds...)
		return
	}
	f := Fact{Kind: kind, Seq: m.Seq, Blob: m.Blob, FD: -1}
	if len(fds) == 1 {
		f.FD = fds[0]
	}
	s.expect.Fact(f)
}

// Kept answers a keep or forget of the worker's.
func (s *Session) Kept(seq uint64, b ipc.Blob) error {
	return s.answer(ipc.Message{Type: ipc.TypeKept, Seq: seq, Blob: &b}, nil)
}

// Blob answers a fetch; fd is -1 if b says that there is none. It stays the
// caller's.
func (s *Session) Blob(seq uint64, b ipc.Blob, fd int) error {
	var fds []int
	if !b.None {
		dup, err := dupFD(fd)
		if err != nil {
			return fmt.Errorf("handing blob %s to worker %d: %w", b.Name, s.expect.Worker, err)
		}
		fds = []int{dup}
	}
	return s.answer(ipc.Message{Type: ipc.TypeBlob, Seq: seq, Blob: &b}, fds)
}

// Refuse answers a request that cannot be followed.
func (s *Session) Refuse(seq uint64, why string) error {
	return s.answer(ipc.Message{Type: ipc.TypeRefused, Seq: seq, Text: printable(why)}, nil)
}

// answer queues what a worker waits for; the descriptors are its own. A worker
// that is not connected any more asks again.
func (s *Session) answer(m ipc.Message, fds []int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.wire
	if w == nil || w.over {
		fdpass.Discard(fds...)
		return fmt.Errorf("answering worker %d with %s: it has no control connection", s.expect.Worker, m.Type)
	}
	if err := m.Validate(); err != nil {
		fdpass.Discard(fds...)
		return fmt.Errorf("answering worker %d: %w", s.expect.Worker, err)
	}
	return s.queue(w, m, fds)
}
