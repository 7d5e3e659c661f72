package programs

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/test/service"
	"github.com/masterd/masterd/test/service/servicetest"
)

const (
	// askPause is between two requests on a connection: longer than Puma waits for the next
	// one before it has it wait elsewhere, and shorter than what counts as idle.
	askPause = 300 * time.Millisecond
	// tooLong a pause counts as idle.
	tooLong = 700 * time.Millisecond
	// askedFor is for how long after a reload it goes on: until a drain begins to hurry.
	askedFor = 3 * time.Second
)

// A connection that is asked on again and again is not closed between two requests while
// its old version's drain has time: a request may be on its way. It is kept, or closed
// after an answer that says so.
func TestAskedConnectionIsNotClosed(t *testing.T) {
	besideOthers(t)
	for _, p := range all() {
		switch {
		case p.kept == none, p.kept == used && !slices.Contains([]string{"uvicorn", "node", "nginx", "caddy", "puma", "gunicorn-threads", "apache", "lighttpd", "tomcat"}, p.name):
			continue // it keeps none, or has no preset
		}
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			if _, err := os.Stat(p.needs); p.needs != "" && err != nil {
				t.Skip(err)
			}
			for !p.asked(t) {
				t.Log("this machine is so slow that the connections were left alone for too long: once more")
			}
		})
	}
}

// asked is false if nothing can be said.
func (p program) asked(t *testing.T) bool {
	dir := servicetest.ShortDir(t)
	s, err := service.New(built, servicetest.ShortDir(t))
	if err != nil {
		t.Fatal(err)
	}
	p.layOut(t, s, dir)
	if p.change != nil {
		p.change(t, s, dir)
	}
	servicetest.StopAtEnd(t, s)
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	var clients []*client
	for range 2 {
		c, err := net.Dial("tcp", s.Addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		clients = append(clients, &client{c, bufio.NewReader(c)})
	}
	var reloaded chan time.Time // when it was, once it is asked for
	var over, before time.Time
	for asked := 0; len(clients) > 0 && (over.IsZero() || time.Now().Before(over)); asked++ {
		if asked == 4 {
			reloaded = p.reload(t, s)
		}
		c := clients[0] // in turn
		clients = clients[1:]
		begun := time.Now()
		last, err := c.ask()
		switch {
		case err != nil && begun.Sub(before) > tooLong:
			return false
		case err != nil:
			t.Fatalf("request %d: %v", asked+1, err)
		case !last:
			clients = append(clients, c)
		case asked < 4:
			t.Fatal("it keeps no connection")
		}
		before = begun
		select {
		case at := <-reloaded:
			over, reloaded = at.Add(askedFor), nil
		case <-time.After(askPause / 2):
		}
	}
	return true
}

// client is a kept connection.
type client struct {
	net.Conn
	*bufio.Reader
}

// ask asks once, unless the connection is closed already; last: the answer says that it
// is the last one.
func (c *client) ask() (last bool, err error) {
	_ = c.SetDeadline(time.Now().Add(time.Millisecond))
	if _, err := c.Peek(1); !errors.Is(err, os.ErrDeadlineExceeded) {
		return false, fmt.Errorf("closed before it was asked on: %w", err)
	}
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(c.Conn, "GET / HTTP/1.1\r\nHost: test\r\n\r\n"); err != nil {
		return false, err
	}
	a, err := http.ReadResponse(c.Reader, nil)
	if err != nil {
		return false, err
	}
	if _, err := io.Copy(io.Discard, a.Body); err != nil || a.StatusCode != http.StatusOK {
		return false, fmt.Errorf("%s: %w", a.Status, err)
	}
	return a.Close, nil
}

// reload has the next version baked, beside the caller.
func (p program) reload(t *testing.T, s *service.Service) chan time.Time {
	t.Helper()
	s.Config.Set("worker.env.RELEASE", "v2")
	if err := s.Write(); err != nil {
		t.Fatal(err)
	}
	at := make(chan time.Time, 1)
	ended := make(chan struct{})
	t.Cleanup(func() { <-ended })
	go func() {
		defer close(ended)
		out, err := s.API.Reload(t.Context(), api.ReloadRequest{Label: "v2", Until: "baked"}, nil)
		if err != nil || out.Result != api.ResultDone {
			t.Errorf("%+v, %v", out, err)
		}
		at <- time.Now()
	}()
	return at
}
