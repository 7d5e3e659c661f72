package worker

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/worker/internal/workertest"
)

// lines is a server of a protocol without HTTP: each line is answered by the
// server's number and the line. A server that is stopped gracefully says bye on
// each connection, goes on answering, and waits for the clients to close. Like
// grpc's, it closes a connection without a word when it is stopped between
// Accept and its first look at it.
type lines struct {
	number int
	before func(net.Conn) // called with what Accept returned, before anything is done with it

	mu       sync.Mutex
	cond     sync.Cond
	ln       net.Listener
	conns    map[net.Conn]bool
	quits    bool
	stopped  bool
	graceful int
}

func newLines(number int) *lines {
	s := &lines{number: number, conns: map[net.Conn]bool{}}
	s.cond.L = &s.mu
	return s
}

func (s *lines) Serve(ln net.Listener) error {
	s.mu.Lock()
	s.ln = ln
	s.mu.Unlock()
	for {
		c, err := ln.Accept()
		if err != nil {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.quits {
				return nil
			}
			return err
		}
		go s.serve(c)
	}
}

func (s *lines) serve(c net.Conn) {
	defer c.Close()
	if s.before != nil {
		s.before(c)
	}
	s.mu.Lock()
	if s.quits {
		s.mu.Unlock()
		return
	}
	s.conns[c] = true
	c.SetDeadline(time.Time{}) // the first touch
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.conns, c)
		s.cond.Broadcast()
		s.mu.Unlock()
	}()
	for in := bufio.NewScanner(c); in.Scan(); {
		if in.Text() == "where" {
			fmt.Fprintln(c, s.number, c.RemoteAddr())
			continue
		}
		fmt.Fprintln(c, s.number, in.Text())
	}
}

func (s *lines) GracefulStop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.graceful++
	s.quits = true
	if s.ln != nil {
		s.ln.Close()
	}
	for c := range s.conns {
		fmt.Fprintln(c, "bye")
	}
	for len(s.conns) > 0 && !s.stopped {
		s.cond.Wait()
	}
}

func (s *lines) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.quits, s.stopped = true, true
	if s.ln != nil {
		s.ln.Close()
	}
	for c := range s.conns {
		c.Close()
	}
	s.cond.Broadcast()
}

// makeLines numbers its servers from one: the first is for clients, the second
// for checks.
type makeLines struct {
	change func(*lines)
	mu     sync.Mutex
	made   []*lines
}

func (m *makeLines) make() GracefulServer {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := newLines(len(m.made) + 1)
	if m.change != nil {
		m.change(s)
	}
	m.made = append(m.made, s)
	return s
}

func (m *makeLines) first() *lines {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.made[0]
}

func (m *makeLines) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.made)
}

// caller is a strict client of such a server.
type caller struct {
	c  net.Conn
	in *bufio.Scanner
}

func call(t *testing.T, addr string) *caller {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, workertest.Patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return calling(c)
}

func calling(c net.Conn) *caller {
	c.SetDeadline(time.Now().Add(workertest.Patience))
	return &caller{c: c, in: bufio.NewScanner(c)}
}

func (c *caller) next() (string, error) {
	if c.in.Scan() {
		return c.in.Text(), nil
	}
	if err := c.in.Err(); err != nil {
		return "", err
	}
	return "", net.ErrClosed
}

// wants sends a line and wants it answered by this server.
func (c *caller) wants(t *testing.T, server int) {
	t.Helper()
	fmt.Fprintln(c.c, "hello")
	if got, err := c.next(); err != nil || got != fmt.Sprint(server, " hello") {
		t.Fatalf("answered %q, %v; wanted server %d's", got, err, server)
	}
}

func (c *caller) wantsBye(t *testing.T) {
	t.Helper()
	if got, err := c.next(); err != nil || got != "bye" {
		t.Fatalf("got %q, %v instead of bye", got, err)
	}
}

func (c *caller) wantsEnd(t *testing.T) {
	t.Helper()
	if got, err := c.next(); err == nil {
		t.Fatalf("got %q instead of the end", got)
	}
}

// noShifts fails when a goroutine of a server of Serve is still there.
func noShifts(t *testing.T) {
	t.Helper()
	workertest.Eventually(t, "no goroutine of a server is left", func() bool {
		s := workertest.Stacks()
		return !strings.Contains(s, "rotate.(*") && !strings.Contains(s, "worker.(*lines)")
	})
}
