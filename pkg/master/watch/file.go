package watch

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"syscall"
)

// file is one watched path.
type file struct {
	path   string
	digest string      // of the content that was last reported, or first seen; empty: it was not there
	seen   os.FileInfo // when it was last looked at; nil: it was not there
}

// moved looks at the file and tells whether it is another than at the last look.
func (f *file) moved() bool {
	st, err := os.Stat(f.path)
	if err != nil || !st.Mode().IsRegular() {
		was := f.seen != nil
		f.seen = nil
		return was
	}
	same := f.seen != nil && sameFile(f.seen, st)
	f.seen = st
	return !same
}

// sameFile compares what a stat tells of two files' contents.
func sameFile(a, b os.FileInfo) bool {
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
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
	f.seen = after
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
