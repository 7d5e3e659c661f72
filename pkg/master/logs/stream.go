package logs

import (
	"os"

	"golang.org/x/sys/unix"
)

const (
	backlogLimit = 64 << 20  // bytes written and not read; beyond, the reading skips ahead
	backlogKeep  = 1 << 20   // bytes at the end that are read all the same
	giveBackStep = 256 << 10 // bytes read before their space is given back
	pageSize     = 4096      // space is given back in whole pages
	tailSize     = 32 << 10  // bytes of dropped output kept in case they are a crash's last words
)

// stream is one of the two files of a worker.
type stream struct {
	name  string
	path  string
	fd    int   // ours: reads, and gives space back
	write int   // the worker's, -1 once it has its own
	pos   int64 // read up to here
	given int64 // space given back up to here
	left  bool  // by an earlier master, and nothing was read yet
	whole bool  // space can only be given back all at once: no holes on this file system

	strays int   // how often it had something outside of what was to be read
	stray  int64 // bytes of that since it was last said

	part []byte // of a line whose end has not come
	over uint64 // bytes of that line beyond what is kept
	tail []byte // end of what was dropped since a line was last passed on
}

func newStream(name string) *stream { return &stream{name: name, fd: -1, write: -1} }

// open makes the file and opens it twice: once to append, for the worker, and
// once for the master, who also needs to write to make holes.
func (s *stream) open(uid int) (err error) {
	s.write, err = unix.Open(s.path, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_APPEND|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		s.write = -1
		return &os.PathError{Op: "create", Path: s.path, Err: err}
	}
	s.fd, err = unix.Open(s.path, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		s.fd = -1
		return &os.PathError{Op: "open", Path: s.path, Err: err}
	}
	if uid > 0 && uid != os.Geteuid() {
		if err := unix.Fchown(s.fd, uid, -1); err != nil {
			return &os.PathError{Op: "chown", Path: s.path, Err: err}
		}
	}
	return nil
}

// next reads into buf. It returns how many bytes were skipped before, because
// too many had not been read, and nothing at the end of what is there.
func (s *stream) next(buf []byte) (got []byte, skipped int64) {
	var st unix.Stat_t
	if s.fd < 0 || unix.Fstat(s.fd, &st) != nil {
		return nil, 0
	}
	if st.Size < s.pos { // somebody truncated it
		s.pos, s.given = 0, 0
	}
	if n := giveBackOutside(s.fd, &st, s.given); n > 0 {
		s.strays, s.stray = s.strays+1, s.stray+n
	}
	if backlog := st.Size - s.pos; backlog > backlogLimit {
		skipped = backlog - backlogKeep
		s.pos += skipped
	}
	if st.Size == s.pos {
		return nil, skipped
	}
	for {
		n, err := unix.Pread(s.fd, buf, s.pos)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n <= 0 {
			return nil, skipped
		}
		s.pos += int64(n)
		return buf[:n], skipped
	}
}

// giveBack frees the space of what was read.
func (s *stream) giveBack() {
	if s.pos-s.given < giveBackStep {
		return
	}
	if !s.whole {
		// A line that is not whole stays, in case the next master has to read it:
		// but not more of one than is kept.
		end := s.pos
		if s.over == 0 {
			end -= int64(len(s.part))
		}
		end = end / pageSize * pageSize
		if end <= s.given {
			return
		}
		if punch(s.fd, s.given, end-s.given) == nil {
			s.given = end
			return
		}
		s.whole = true
	}
	// No holes here. What a worker writes between the last look and the cut is
	// lost; the alternative is a file that grows for ever. In the middle of a
	// line it is surely writing just now.
	if (len(s.part) > 0 || s.over > 0) && s.pos < backlogLimit {
		return
	}
	var st unix.Stat_t
	if unix.Fstat(s.fd, &st) == nil && st.Size == s.pos && unix.Ftruncate(s.fd, 0) == nil {
		s.pos, s.given = 0, 0
	}
}

// hold keeps what there is of a line without an end, up to limit bytes.
func (s *stream) hold(b []byte, limit int) {
	if collector := limit - len(s.part); len(b) > collector {
		s.over += uint64(len(b) - collector)
		b = b[:collector]
	}
	s.part = append(s.part, b...)
}

// remember keeps the end of what was dropped.
func (s *stream) remember(b []byte) {
	if len(b) >= tailSize {
		s.tail = append(s.tail[:0], b[len(b)-tailSize:]...)
		return
	}
	if over := len(s.tail) + len(b) - tailSize; over > 0 {
		s.tail = append(s.tail[:0], s.tail[over:]...)
	}
	s.tail = append(s.tail, b...)
}

func (s *stream) closeWrite() {
	if s.write >= 0 {
		unix.Close(s.write)
		s.write = -1
	}
}

func (s *stream) close() {
	s.closeWrite()
	if s.fd >= 0 {
		unix.Close(s.fd)
		s.fd = -1
	}
}

func (s *stream) remove() {
	s.close()
	os.Remove(s.path)
}
