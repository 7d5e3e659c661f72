package watch

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"syscall"
	"time"
)

// file is one watched path.
type file struct {
	path   string
	digest string      // of the content that was last reported, or first seen; empty: it was not there
	seen   os.FileInfo // when it was last looked at; nil: it was not there
	again  bool        // it was read so soon after a change that the next look has to count as one
}

// moved looks at the file and tells whether it is another than at the last look.
func (f *file) moved() bool {
	was, again := f.seen, f.again
	f.seen, f.again = nil, false
	st, err := os.Stat(f.path)
	if err != nil || !st.Mode().IsRegular() {
		return was != nil || again
	}
	f.seen = st
	return was == nil || again || !sameFile(was, st)
}

// sameFile compares what a stat tells of two files' contents. The time of the
// last change to the inode is the kernel's alone; that of the content can be set.
func sameFile(a, b os.FileInfo) bool {
	return os.SameFile(a, b) && a.Size() == b.Size() && changed(a).Equal(changed(b))
}

// tick is more than the coarsest step of a file system's clock on a local disk.
const tick = 20 * time.Millisecond

// fresh tells whether a file has changed just now: another change within the same
// step of the clock leaves its times as they are, so it must be looked at again.
// A clock far ahead of ours, a file server's, is not waited for.
func fresh(st os.FileInfo) bool {
	age := time.Since(changed(st))
	return age < tick && age > -tick
}

// errUnsettled: the file changed while it was read.
var errUnsettled = errors.New("changed while it was read")

// read computes the digest of the content. stop ends it early.
func (f *file) read(stop <-chan struct{}) (string, error) {
	in, err := os.OpenFile(f.path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a fifo in its place would hold us up
	if err != nil {
		return "", err
	}
	defer in.Close()
	before, err := in.Stat()
	if err != nil {
		return "", err
	}
	if !before.Mode().IsRegular() {
		return "", errors.New("not a regular file")
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, &stoppable{in, stop}); err != nil {
		return "", err
	}
	after, err := os.Stat(f.path)
	if err != nil || !sameFile(before, after) {
		return "", errUnsettled
	}
	f.seen, f.again = after, fresh(after)
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// stoppable reads until it is told to stop: a program has gigabytes at worst,
// and Close waits.
type stoppable struct {
	in   io.Reader
	stop <-chan struct{}
}

func (s *stoppable) Read(p []byte) (int, error) {
	select {
	case <-s.stop:
		return 0, errors.New("the watch ends")
	default:
		return s.in.Read(p)
	}
}
