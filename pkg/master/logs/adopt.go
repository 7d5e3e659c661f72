package logs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// What is needed so that the next master reads on where this one has read to,
// also when this one is killed between two instructions: beside a worker's two
// files there is a third, with the two places up to which its lines were passed
// on. It is written after they were, so a line may come twice at such a moment
// and none is lost.

const (
	placeSuffix = "pos"
	placeSize   = 16 // bytes: two numbers, little end first
)

// Adopt reads on in the files of a worker that an earlier master has started.
// The files of one that is gone already can be adopted as well, and finished.
// What of them cannot be read is said in the output itself: a worker is not
// given up for the sake of its log.
func (r *Collector) Adopt(id Ident) (*Output, error) { return r.enter(id, r.resume) }

// Sweep removes the files of workers that have no output here: those of an
// earlier master that are neither there nor were adopted.
func (r *Collector) Sweep() error {
	var failed error
	r.do(func() {
		entries, err := os.ReadDir(r.opt.Dir)
		failed = err
		for _, e := range entries {
			stem, suffix, _ := strings.Cut(e.Name(), ".")
			number, ours := strings.CutPrefix(stem, "w")
			worker, err := strconv.ParseUint(number, 10, 64)
			if !ours || err != nil || suffix != "out" && suffix != "err" && suffix != placeSuffix {
				continue
			}
			if o := r.outputs[worker]; o == nil || o.done {
				failed = errors.Join(failed, os.Remove(filepath.Join(r.opt.Dir, e.Name())))
			}
		}
	})
	return failed
}

// resume opens what an earlier master has left.
func (r *Collector) resume(o *Output) error {
	o.paths(r.opt.Dir)
	o.place = openPlace(o.placePath, false)
	known := o.place.read()
	for i, s := range o.streams() {
		if err := s.reopen(known[i]); err != nil {
			s.close()
			r.say(o, fmt.Sprintf("%s of this worker cannot be read on: %v", s.name, err))
		} else if lost := s.pos - known[i]; lost > backlogKeep { // less is a batch whose place was not noted
			r.say(o, fmt.Sprintf("%d bytes of %s were dropped while no master was there", lost, s.name))
		}
	}
	return nil
}

// reopen finds the place to read on from: the known one, or where the first
// data is that was not given back.
func (s *stream) reopen(known int64) error {
	// Not blocking, whatever lies there in the place of the file.
	fd, err := unix.Open(s.path, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: s.path, Err: err}
	}
	s.fd = fd
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return &os.PathError{Op: "fstat", Path: s.path, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return fmt.Errorf("%s is no file", s.path)
	}
	first, err := unix.Seek(fd, 0, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO): // nothing but holes
		first = st.Size
	case err != nil:
		first = 0
	}
	s.pos = max(first, known)
	if known > st.Size { // it was cut, by whoever cannot make holes or does not know us
		s.pos = first
	}
	s.given, s.left = min(first, s.pos), true
	return nil
}

// resumeAt is the beginning of the first line that was not passed on, as far
// as it is still there.
func (s *stream) resumeAt() int64 {
	return max(s.pos-int64(len(s.part))-int64(s.over), s.given)
}

// place is the file with the two places; nil: there is none, and the first data
// must do.
type place struct {
	file *os.File
	last [placeSize]byte
}

func openPlace(path string, anew bool) *place {
	flags := os.O_RDWR | os.O_CREATE | unix.O_NOFOLLOW | unix.O_NONBLOCK
	if anew {
		_ = os.Remove(path)
		flags |= os.O_EXCL
	}
	f, err := os.OpenFile(path, flags, 0o600)
	if err != nil {
		return nil
	}
	return &place{file: f}
}

// read returns zeros for what is not known.
func (p *place) read() (at [2]int64) {
	if p == nil {
		return at
	}
	var b [placeSize]byte
	if n, _ := p.file.ReadAt(b[:], 0); n < placeSize {
		return at
	}
	p.last = b
	for i := range at {
		at[i] = max(0, int64(binary.LittleEndian.Uint64(b[8*i:])))
	}
	return at
}

// note writes the places down, if they have changed.
func (o *Output) note() {
	if o.place == nil {
		return
	}
	var b [placeSize]byte
	for i, s := range o.streams() {
		binary.LittleEndian.PutUint64(b[8*i:], uint64(s.resumeAt()))
	}
	if b == o.place.last {
		return
	}
	if _, err := o.place.file.WriteAt(b[:], 0); err == nil {
		o.place.last = b
	}
}

func (o *Output) closePlace() {
	if o.place != nil {
		o.place.file.Close()
		o.place = nil
	}
}
