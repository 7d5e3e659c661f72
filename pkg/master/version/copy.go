package version

import (
	"context"
	"fmt"
	"io"
	"os"
	"syscall"
)

// store puts the program f at path: a link to an equal one that is pinned
// already (digest, when it is known), else a reflink, else a copy. It returns
// the digest and size of what it stored, which is on disk then. A closed one nobody
// but the master's user may read.
func (s *Store) store(ctx context.Context, path string, f *os.File, digest string, closed bool) (string, int64, error) {
	if digest != "" {
		if size, ok := s.linkEqual(ctx, path, digest, closed); ok {
			return digest, size, nil
		}
	}
	dst, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return "", 0, err
	}
	digest, size, err := s.fill(ctx, dst, f)
	if err == nil {
		err = dst.Chmod(copyMode(closed))
	}
	if err == nil {
		err = dst.Sync()
	}
	if closing := dst.Close(); err == nil {
		err = closing
	}
	if err != nil {
		return "", 0, fmt.Errorf("store a copy: %w", err)
	}
	// A process forked while dst was open has it open too until it execs, and a
	// program that is open for writing cannot be run (golang/go#22315). Forks
	// hold this lock until the exec: when we get it, none is left.
	syscall.ForkLock.Lock()
	//lint:ignore SA2001 waiting for the others is all that is wanted
	syscall.ForkLock.Unlock()
	return digest, size, nil
}

// fill gives dst the content of f, and hashes what dst was given.
func (s *Store) fill(ctx context.Context, dst, f *os.File) (digest string, size int64, err error) {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return "", 0, err
	}
	if s.reflink(dst, f) == nil {
		return hashAll(ctx, dst)
	}
	var written, started int64
	return hashInto(ctx, f, func(piece []byte) error {
		n, err := dst.Write(piece)
		if written += int64(n); written-started >= writebackStep {
			startWriteback(dst, started, written-started)
			started = written
		}
		return err
	})
}

// linkEqual links an intact pinned program with this digest to path. Within the
// store that is safe: nothing in it is ever written to again.
func (s *Store) linkEqual(ctx context.Context, path, digest string, closed bool) (size int64, ok bool) {
	s.mu.Lock()
	var equal []record
	for _, r := range s.records {
		if r.Mode == ModeCopy && r.Digest == digest {
			equal = append(equal, r)
		}
	}
	s.mu.Unlock()
	for _, r := range equal {
		if s.checkPinned(ctx, r) == nil && s.isClosed(r) == closed && os.Link(r.pinned(s.dir), path) == nil {
			return r.Size, true
		}
	}
	return 0, false
}
