//go:build linux

package worker

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// What a connection must not be to be moved is found by five conditions, which
// rest on how net/http happens to work. So each scene here is played with every
// choice of them left out, under the net/http of the Go version in use: a
// request must be lost when all that guard the scene are left out, or the scene
// shows nothing, and must be answered as long as one of them is there.

func skipped(bits int) string {
	var names []string
	for i, name := range []string{"state", "touched", "deadlines", "size", "stack"} {
		if bits&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, "+")
}

// scene is a moment at which a connection must stay. Its client is on the old
// worker; play brings it to that moment, end sends what is left and tells
// whether the client got its right answers.
type scene struct {
	name   string
	guards int // any of these sees it
	play   func(s *stage)
	end    func(s *stage) error
}

// stage is one couple of workers with a client.
type stage struct {
	*couple
	k       *client
	m       *mover
	release chan struct{}
}

var scenes = []scene{{
	name:   "the first byte of a request came alone",
	guards: skipTouched | skipSize,
	play: func(s *stage) {
		s.sends("P")
		s.wasRead("P")
	},
	end: func(s *stage) error {
		return s.finish("OST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi", "POSThi")
	},
}, {
	name:   "the first byte of a request came while the one before ran",
	guards: skipSize,
	play: func(s *stage) {
		s.sends("GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
		s.runs()
		s.sends("P")
		s.wasRead("P")
		close(s.release)
		s.answered("GET")
		s.idles()
	},
	end: func(s *stage) error {
		return s.finish("OST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi", "POSThi")
	},
}, {
	name:   "a request line came with the request before",
	guards: skipDeadlines | skipStack,
	play: func(s *stage) {
		s.sends("GET / HTTP/1.1\r\nHost: x\r\n\r\nPOST / HTTP/1.1\r\n")
		s.answered("GET")
		s.deadlines(2)
	},
	end: func(s *stage) error { return s.finish("Host: x\r\nContent-Length: 2\r\n\r\nhi", "POSThi") },
}, {
	name:   "half a body was read",
	guards: skipState | skipTouched | skipDeadlines | skipStack,
	play: func(s *stage) {
		s.sends("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nhi")
		s.runs()
		s.wasRead("hi")
	},
	// What follows the body makes sure that who knows only this says so at once.
	end: func(s *stage) error { return s.finish("gh\r\n\r\n", "POSThigh") },
}, {
	name:   "a request runs",
	guards: skipAll,
	play: func(s *stage) {
		s.sends("GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
		s.runs()
	},
	end: func(s *stage) error {
		close(s.release)
		return s.finish("", "GET")
	},
}}

func TestAConnectionThatIsNotIdleStays(t *testing.T) {
	for _, sc := range scenes {
		t.Run(sc.name, func(t *testing.T) {
			for skip := range skipAll + 1 {
				blind := skip&sc.guards == sc.guards
				err := perform(t, sc, skip)
				if blind && err == nil {
					t.Errorf("with %s left out nothing was lost: this scene shows nothing", skipped(skip))
				}
				if !blind && err != nil {
					t.Errorf("with only %q left out: %v", skipped(skip), err)
				}
			}
		})
	}
}

// perform plays a scene and has the old worker give what it can at its moment.
func perform(t *testing.T, sc scene, skip int) error {
	s := &stage{release: make(chan struct{})}
	s.couple = newCouple(t, func(name string, w *Worker) {
		w.handover.skip = skip
		w.Handle("http", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/wait" {
				select {
				case <-s.release:
				case <-r.Context().Done(): // its connection has ended, as it seems
					io.WriteString(rw, "ended")
				}
			}
			b, err := io.ReadAll(r.Body)
			if err != nil {
				panic(http.ErrAbortHandler)
			}
			io.WriteString(rw, r.Method+string(b))
		}))
	})
	s.k = dial(t, s.slot.addr)
	if body, _, err := s.k.do("POST", "/", "first"); err != nil || body != "POSTfirst" {
		t.Fatal(body, err)
	}
	s.m = s.old.traffic.clients.movers()[0]
	s.idles()
	sc.play(s)
	s.toNew.activate()
	give(t, s.toOld, s.toNew)
	eventually(t, "all that were idle have been asked", s.old.handover.asked)
	err := sc.end(s)
	s.k.c.Close()
	for _, r := range []*running{s.old, s.new} {
		r.stop()
		r.wait()
	}
	return err
}

// asked: there is a way, and whoever was idle when it came was asked to go it.
func (h *handover) asked() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.open.Load() && h.sweeps == 0 && len(h.woken) == 0
}

func (s *stage) sends(b string) {
	if _, err := io.WriteString(s.k.c, b); err != nil {
		s.t.Fatal(err)
	}
}

// wasRead: what the client sent last is in the server's hands, not the kernel's.
func (s *stage) wasRead(what string) {
	s.t.Helper()
	eventually(s.t, fmt.Sprintf("%q was read", what), func() bool {
		return queued(s.t, s.k.c.(*net.TCPConn), unix.TIOCOUTQ) == 0 && queued(s.t, s.m.stream.(*net.TCPConn), unix.TIOCINQ) == 0
	})
}

// queued is how many bytes the kernel has.
func queued(t *testing.T, c *net.TCPConn, which uint) (n int) {
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if cerr := raw.Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), which) }); cerr != nil || err != nil {
		t.Fatal(cerr, err)
	}
	return n
}

func (s *stage) runs() {
	eventually(s.t, "the request runs", func() bool { return s.old.Stats().InFlight == 1 })
}

// idles: the server has begun to wait for the next request.
func (s *stage) idles() { s.deadlines(1) }

func (s *stage) deadlines(n int) {
	eventually(s.t, "the server has come so far", func() bool {
		s.m.mu.Lock()
		defer s.m.mu.Unlock()
		return s.m.state == http.StateIdle && s.m.deadlines >= n
	})
}

func (s *stage) answered(body string) {
	if got, _, err := s.k.read(); err != nil || got != body {
		s.t.Fatalf("%q, %v", got, err)
	}
}

// finish sends the rest and wants this answer.
func (s *stage) finish(rest, body string) error {
	if _, err := io.WriteString(s.k.c, rest); err != nil {
		return err
	}
	got, _, err := s.k.read()
	if err == nil && got != body {
		err = fmt.Errorf("%q came back, not %q", got, body)
	}
	return err
}
