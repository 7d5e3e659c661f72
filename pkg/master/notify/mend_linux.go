package notify

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/masterd/masterd/pkg/ipc/fdpass"
)

// drainLimit bounds the wait for what is in a socket that another one takes the
// place of.
const drainLimit = 100 * time.Millisecond

// Mend gives each worker whose socket was removed another one of the same name,
// and makes the directory again. What is in the one before is still heard.
func (r *Server) Mend() (mended bool, err error) {
	var before []*socket
	defer func() { // the new ones are there: nothing more comes in
		for _, s := range before {
			for end := time.Now().Add(drainLimit); s.waiting() && time.Now().Before(end); {
				time.Sleep(time.Millisecond)
			}
			close(s.over)
			fdpass.CloseConn(s.conn)
		}
	}()
	r.mending.Lock()
	defer r.mending.Unlock()
	if r.closed {
		return false, nil
	}
	if _, err := os.Lstat(r.o.Dir); errors.Is(err, fs.ErrNotExist) {
		if err := os.Mkdir(r.o.Dir, 0o711); err != nil {
			return false, fmt.Errorf("the sockets for sd_notify: %w", err)
		}
		if err := os.Chmod(r.o.Dir, 0o711); err != nil {
			return false, fmt.Errorf("the sockets for sd_notify: %w", err)
		}
		mended = true
	}
	r.mu.Lock()
	lost := map[uint64]*socket{}
	for id, s := range r.of {
		if !s.named.Found() {
			lost[id] = s
		}
	}
	r.mu.Unlock()
	for id, s := range lost {
		if _, err := r.Add(s.worker); err != nil {
			return mended, err
		}
		r.mu.Lock()
		leader := s.leader
		if leader != 0 { // it may have narrowed it, and may do so in what is still to be heard
			r.of[id].access = s.access
		}
		r.mu.Unlock()
		if leader != 0 {
			r.Begin(id, leader)
			r.Main(id, int(s.main.Load()))
		}
		before = append(before, s)
		mended = true
	}
	return mended, nil
}
