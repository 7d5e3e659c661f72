package admin

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"sync"
	"testing"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/master/admin/admintest"
)

// garbage is what ten thousand connections bring.
var garbage = []string{
	"", "\x00", "GET", "\x16\x03\x01\x02\x00\x01\x00", "POST /v1/stop HTTP/1.1\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
	"POST /v1/stop HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n{", "GET / HTTP/1.1\r\nHost: x\r\nX: ",
}

// Whoever floods the socket, root and the master's own user are answered in the
// middle of it.
func TestFloodOfGarbage(t *testing.T) {
	n := 10_000
	if testing.Short() {
		n = 1000
	}
	for who, cred := range map[string]func(i int) ipc.Cred{
		"root":      func(int) ipc.Cred { return ipc.Cred{} },
		"operators": func(i int) ipc.Cred { return ipc.Cred{UID: uint32(10 + i%8), GID: operatorsGID} },
		"readers":   func(i int) ipc.Cred { return ipc.Cred{UID: uint32(20 + i%8), GID: readersGID} },
		"strangers": func(i int) ipc.Cred { return ipc.Cred{UID: uint32(30 + i%8), GID: 6} },
	} {
		t.Run(who, func(t *testing.T) {
			b := &admintest.Backend{StatusIs: api.Status{Service: "shop"}}
			s := begin(t, b, nil)
			s.comes(ipc.Cred{UID: masterUID})
			before := runtime.NumGoroutine()
			var wg sync.WaitGroup
			left := make(chan int, n)
			for i := range n {
				left <- i
			}
			close(left)
			for range 8 {
				wg.Go(func() {
					var open []net.Conn
					for i := range left {
						from := fmt.Sprintf("@%s/%d", s.path, i)
						s.flood.Store(from, cred(i))
						c, err := net.DialUnix("unix", &net.UnixAddr{Name: from, Net: "unix"}, &net.UnixAddr{Name: s.path, Net: "unix"})
						if err != nil {
							continue // its queue is full: as good as refused
						}
						fmt.Fprint(c, garbage[i%len(garbage)])
						open = append(open, c)
						if len(open) == 50 { // held open, most of them
							open[0].Close()
							open = open[1:]
						}
					}
					for _, c := range open {
						c.Close()
					}
				})
			}
			done := make(chan struct{})
			go func() { wg.Wait(); close(done) }()
			most, asked := 0, 0
			for flooding := true; flooding; {
				select {
				case <-done:
					flooding = false
				default:
				}
				most = max(most, s.open())
				asked++
				if _, err := api.NewClient(s.path, "").Status(t.Context()); err != nil {
					t.Errorf("question %d in the middle of it: %v", asked, err)
				}
			}
			if most > maxConns[owner] {
				t.Errorf("%d connections were open at one time", most)
			}
			if s.Counts().Crowded == 0 {
				t.Error("nobody was turned away: it was no flood")
			}
			s.comes(cred(0))
			eventually(t, "all is forgotten", func() bool { return s.open() == 0 && runtime.NumGoroutine() <= before })
			if st, err := api.NewClient(s.path, "").Status(t.Context()); who != "strangers" && (err != nil || st.Service != "shop") {
				t.Errorf("one of those who flooded it, afterwards: %+v, %v", st, err)
			}
			if len(b.Calls()) != 0 {
				t.Errorf("the backend was asked %+v", b.Calls())
			}
			t.Logf("%+v, at most %d at a time, %d questions answered meanwhile", s.Counts(), most, asked)
		})
	}
}

// follow opens a stream that stays and reads its first bytes, so that it is
// known to be answered.
func (s *stage) follow() net.Conn {
	s.t.Helper()
	c := s.dial()
	fmt.Fprint(c, "GET /v1/logs?follow=true HTTP/1.1\r\nHost: x\r\n\r\n")
	if resp, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || resp.StatusCode != 200 {
		s.t.Fatalf("following: %+v, %v", resp, err)
	}
	return c
}

func TestHalfQuestionsKeepNobodyOut(t *testing.T) {
	b := &admintest.Backend{}
	s := begin(t, b, nil)
	s.comes(ipc.Cred{UID: 5, GID: operatorsGID})
	for range 2 * maxPerUser {
		fmt.Fprint(s.dial(), "POST /v1/stop HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
	}
	eventually(t, "half of them were turned away", func() bool { return s.Counts().Crowded == maxPerUser })
	for who, cred := range map[string]ipc.Cred{"root": {}, "an operator": {UID: 6, GID: operatorsGID}, "a reader": {UID: 7, GID: readersGID}} {
		s.comes(cred)
		if code, body := s.do("GET", "/v1/status", ""); code != 200 {
			t.Errorf("%s is answered %d %s", who, code, body)
		}
	}
	if calls := b.Calls(); len(calls) != 0 {
		t.Errorf("the backend was asked %+v", calls)
	}
}

// Each who may do more finds a place when those who may do less have taken all of
// theirs, and are being answered.
func TestTooManyThatAreAnswered(t *testing.T) {
	s := begin(t, &admintest.Backend{}, nil)
	turnedAway := func(who string) {
		t.Helper()
		if resp, err := http.ReadResponse(bufio.NewReader(s.dial()), nil); err != nil || resp.StatusCode != http.StatusServiceUnavailable {
			t.Fatalf("%s is answered %+v, %v", who, resp, err)
		}
	}
	s.comes(ipc.Cred{UID: 5, GID: readersGID})
	for range maxPerUser {
		s.follow()
	}
	turnedAway("one too many")
	if s.Counts().Crowded != 1 {
		t.Errorf("counted %+v", s.Counts())
	}
	uid := uint32(10)
	fill := func(gid uint32, limit int) {
		for ; s.open() < limit; uid++ {
			s.comes(ipc.Cred{UID: uid, GID: gid})
			for range min(maxPerUser, limit-s.open()) {
				s.follow()
			}
		}
		s.comes(ipc.Cred{UID: 4000, GID: gid})
	}
	fill(readersGID, maxConns[reader])
	turnedAway("another reader")
	fill(operatorsGID, maxConns[operator])
	turnedAway("another operator")
	for _, uid := range []uint32{0, masterUID} {
		s.comes(ipc.Cred{UID: uid})
		if code, _ := s.do("GET", "/v1/status", ""); code != 200 {
			t.Errorf("user %d is answered %d", uid, code)
		}
	}
}

func TestStrangersShareALittle(t *testing.T) {
	s := begin(t, &admintest.Backend{}, nil)
	for uid := range uint32(3 * maxConns[stranger]) {
		s.comes(ipc.Cred{UID: 10_000 + uid})
		s.dial()
		eventually(t, "it was counted", func() bool { n := s.Counts(); return n.Accepted+n.Crowded == uint64(uid)+1 })
	}
	if n := s.open(); n != maxConns[stranger] {
		t.Errorf("%d strangers are connected", n)
	}
}

func TestUnknownPeer(t *testing.T) {
	s := begin(t, &admintest.Backend{}, nil)
	s.Close(t.Context())
	o := s.o
	srv, err := listen(o, func(*net.UnixConn) (ipc.Cred, error) { return ipc.Cred{}, fmt.Errorf("no idea") })
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Close(t.Context())
	c, err := net.Dial("unix", o.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("a peer that the kernel does not name was spoken to")
	}
	if srv.Counts().Unknown != 1 {
		t.Errorf("counted %+v", srv.Counts())
	}
}
