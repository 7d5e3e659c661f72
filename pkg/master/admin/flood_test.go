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

func TestFloodOfGarbage(t *testing.T) {
	n := 10_000
	if testing.Short() {
		n = 1000
	}
	for who, cred := range map[string]ipc.Cred{"root": {}, "a reader": {UID: 5, GID: readersGID}, "a stranger": {UID: 6, GID: 6}} {
		t.Run(who, func(t *testing.T) {
			b := &admintest.Backend{StatusIs: api.Status{Service: "shop"}}
			s := begin(t, b, nil)
			s.comes(cred)
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
						c, err := net.Dial("unix", s.path)
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
			flooding, most, asked := true, 0, 0
			for flooding {
				select {
				case <-done:
					flooding = false
				default:
				}
				most = max(most, s.open())
				if who != "a stranger" {
					asked++
					if _, err := api.NewClient(s.path, "").Status(t.Context()); err != nil {
						t.Errorf("question %d in the middle of it: %v", asked, err)
					}
				}
			}
			if most > maxConns {
				t.Errorf("%d connections were open at one time", most)
			}
			s.comes(ipc.Cred{})
			if st, err := api.NewClient(s.path, "").Status(t.Context()); err != nil || st.Service != "shop" {
				t.Errorf("afterwards: %+v, %v", st, err)
			}
			eventually(t, "all is forgotten", func() bool { return s.open() == 0 && runtime.NumGoroutine() <= before })
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

func TestIdleOnesMakeRoomAndBusyOnesStay(t *testing.T) {
	s := begin(t, &admintest.Backend{}, nil)
	s.comes(ipc.Cred{UID: 5, GID: readersGID})
	// One that follows, then as many silent ones as there is room for, and more.
	busy := s.follow()
	var silent []net.Conn
	for range maxPerUser + 10 {
		silent = append(silent, s.dial())
	}
	eventually(t, "the silent ones came and the oldest went", func() bool { return s.Counts().Evicted == 11 && s.open() == maxPerUser })
	if _, err := silent[0].Read(make([]byte, 1)); err == nil {
		t.Error("the oldest silent one was spoken to")
	}
	s.crowd.mu.Lock()
	first := s.crowd.conns[0]
	if !s.crowd.busy[first] {
		t.Error("the one that follows was made to leave")
	}
	s.crowd.mu.Unlock()
	busy.Close()
}

func TestHalfQuestionsKeepNobodyOut(t *testing.T) {
	b := &admintest.Backend{}
	s := begin(t, b, nil)
	for range 2 * maxPerUser {
		fmt.Fprint(s.dial(), "POST /v1/stop HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
	}
	if code, body := s.do("GET", "/v1/status", ""); code != 200 {
		t.Errorf("answered %d %s", code, body)
	}
	if calls := b.Calls(); len(calls) != 0 {
		t.Errorf("the backend was asked %+v", calls)
	}
}

func TestTooManyThatAreAnswered(t *testing.T) {
	s := begin(t, &admintest.Backend{}, nil)
	reader := ipc.Cred{UID: 5, GID: readersGID}
	s.comes(reader)
	for range maxPerUser {
		s.follow()
	}
	c := s.dial()
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || resp.StatusCode != http.StatusServiceUnavailable {
		t.Fatalf("one too many is answered %+v, %v", resp, err)
	}
	if s.Counts().Crowded != 1 {
		t.Errorf("counted %+v", s.Counts())
	}
	// Others are not affected, and the rest of the room belongs to those who
	// can do anything anyway.
	for uid := uint32(10); s.open() < maxConns-reserved; uid++ {
		s.comes(ipc.Cred{UID: uid, GID: readersGID})
		for range min(maxPerUser, maxConns-reserved-s.open()) {
			s.follow()
		}
	}
	s.comes(ipc.Cred{UID: 4000, GID: readersGID})
	if resp, err := http.ReadResponse(bufio.NewReader(s.dial()), nil); err != nil || resp.StatusCode != http.StatusServiceUnavailable {
		t.Fatalf("another reader is answered %+v, %v", resp, err)
	}
	s.comes(ipc.Cred{UID: masterUID})
	if code, _ := s.do("GET", "/v1/status", ""); code != 200 {
		t.Errorf("the master's own user is answered %d", code)
	}
}

func TestStrangersShareALittle(t *testing.T) {
	s := begin(t, &admintest.Backend{}, nil)
	for uid := range uint32(3 * maxStrangers) {
		s.comes(ipc.Cred{UID: 10_000 + uid})
		s.dial()
	}
	eventually(t, "they were counted", func() bool { return s.Counts().Accepted == 3*maxStrangers })
	if n := s.open(); n > maxStrangers {
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
