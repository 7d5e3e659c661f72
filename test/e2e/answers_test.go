package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/test/service"
)

// slowAnswers are requests whose answers look, from outside, as if they had ended.
func slowAnswers() map[string]string {
	return map[string]string{
		"pauses of 20 ms":  "/pieces?n=150&gap=20ms",
		"pauses of 200 ms": "/pieces?n=15&gap=200ms",
		"a pause of 3 s":   "/pieces?n=2&gap=3s",
		"a long poll":      "/poll?gap=3s",
		"early hints":      "/hints?gap=3s",
		"an upload":        "/upload",
	}
}

// asking is a connection on which requests are made.
type asking struct {
	net.Conn
	in *bufio.Reader
}

func dialFor(t *testing.T, s *service.Service) *asking {
	t.Helper()
	c, err := net.Dial("tcp", s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(2 * patience))
	return &asking{c, bufio.NewReader(c)}
}

// begin sends a request, and of one with a body the part that makes the server ask for more.
func (c *asking) begin(path string) error {
	text := "GET " + path + " HTTP/1.1\r\nHost: test\r\n\r\n"
	if path == "/upload" {
		text = "POST /upload HTTP/1.1\r\nHost: test\r\nContent-Length: 60\r\nExpect: 100-continue\r\n\r\n"
	}
	_, err := io.WriteString(c, text)
	return err
}

// end reads the answer, and of one with a body sends that, slowly.
func (c *asking) end(path string) error {
	if path == "/upload" {
		if line, err := c.in.ReadString('\n'); err != nil || !strings.Contains(line, "100") {
			return fmt.Errorf("no 100 Continue: %q, %w", line, err)
		}
		for i := range 6 {
			if _, err := io.WriteString(c, "0123456789"); err != nil {
				return fmt.Errorf("part %d of the body: %w", i, err)
			}
			time.Sleep(400 * time.Millisecond)
		}
		_, _ = c.in.ReadString('\n') // the empty line after it
	}
	a, err := http.ReadResponse(c.in, nil)
	if err == nil && a.StatusCode == http.StatusEarlyHints {
		a, err = http.ReadResponse(c.in, nil)
	}
	if err != nil {
		return err
	}
	body, err := io.ReadAll(a.Body)
	if err == nil && !strings.HasSuffix(string(body), "end\n") {
		err = fmt.Errorf("%s: %q", a.Status, body)
	}
	return err
}

// keep makes the connection one that is kept: it asks for short answers, with pauses.
func (c *asking) keep(t *testing.T) {
	t.Helper()
	for range 6 {
		time.Sleep(30 * time.Millisecond)
		if err := c.begin("/pieces?n=1"); err != nil {
			t.Fatal(err)
		}
		if err := c.end("/pieces"); err != nil {
			t.Fatal(err)
		}
	}
}

// underWay has a slow answer begun, on a new connection and on a kept one; what it returns
// waits for their ends.
func underWay(t *testing.T, s *service.Service, path string) (ends func()) {
	t.Helper()
	results := make(chan error, 2)
	for _, kept := range []bool{false, true} {
		c := dialFor(t, s)
		if kept {
			c.keep(t)
		}
		if err := c.begin(path); err != nil {
			t.Fatal(err)
		}
		go func() {
			err := c.end(path)
			if err != nil {
				err = fmt.Errorf("kept %v: %w", kept, err)
			}
			_ = c.Close()
			results <- err
		}()
	}
	return func() {
		t.Helper()
		for range cap(results) {
			if err := <-results; err != nil {
				t.Error(err)
			}
		}
	}
}

// An answer that pauses is not taken for one that has ended, whatever it looks like.
func TestAnswersThatPauseAreNotCut(t *testing.T) {
	besideOthers(t)
	for what, path := range slowAnswers() {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s := answering(t, "1m")
			if err := s.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			ends := underWay(t, s, path)
			next(t, s, 2, "baked")
			ends()
			drainedAway(t, s)
			if st := status(t, s); st.LastCut != nil {
				t.Errorf("something was cut: %+v", st.LastCut)
			}
		})
	}
}

// What has only ever streamed is cut at the end of a drain and no sooner, and is counted.
func TestStreamsAreCutAtTheEndAndCounted(t *testing.T) {
	t.Parallel()
	s := answering(t, "3s")
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	c := dialFor(t, s)
	if err := c.begin("/pieces?n=2&gap=10m"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.in.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	next(t, s, 2, "baked")
	wait(t, s, "the stream to be seen", func(st api.Status) bool {
		for _, g := range st.Generations {
			if len(g.Workers) == 1 && g.Workers[0].Clients != nil && g.Workers[0].Clients.Streams == 1 {
				return true
			}
		}
		return false
	})
	if _, err := io.Copy(io.Discard, c.in); err != nil && !errors.Is(err, net.ErrClosed) && !strings.Contains(err.Error(), "reset") {
		t.Error(err)
	}
	if took := time.Since(begun); took < 3*time.Second {
		t.Errorf("it was cut after %v", took)
	}
	drainedAway(t, s)
	st := status(t, s)
	if st.LastCut == nil || st.LastCut.Cut == nil || st.LastCut.Cut.Requests != 1 || st.LastCut.Cut.Connections != 1 || st.LastCut.Cut.LongestMS < 3000 {
		t.Fatalf("last cut %+v", st.LastCut)
	}
	if !strings.Contains(st.LastCut.Reason, "1 connection and 1 request were cut") {
		t.Error(st.LastCut.Reason)
	}
}

// Of a protocol that is not known nobody can tell from outside what a pause means.
func TestTransactionsAreNotCut(t *testing.T) {
	besideOthers(t)
	for _, c := range []struct {
		drain string
		steps int
		cut   bool
	}{{"1m", 5, false}, {"3s", 100, true}} {
		t.Run(c.drain, func(t *testing.T) {
			t.Parallel()
			s := answering(t, c.drain)
			s.Config.Set("worker.command", []string{programs.Answers, s.Addr, "lines"}).Set("health", map[string]any{"tcp": map[string]any{}})
			if err := s.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			conn := dialFor(t, s)
			say := func(text string) error {
				if _, err := fmt.Fprintln(conn, text); err != nil {
					return err
				}
				if line, err := conn.in.ReadString('\n'); err != nil || line != "OK "+text+"\n" {
					return fmt.Errorf("%q: %w", line, err)
				}
				return nil
			}
			if err := say("BEGIN"); err != nil {
				t.Fatal(err)
			}
			next(t, s, 2, "baked")
			begun := time.Now()
			var err error
			for i := 0; i < c.steps && err == nil; i++ {
				time.Sleep(1200 * time.Millisecond)
				err = say(fmt.Sprintf("SET %d", i))
			}
			took := time.Since(begun)
			_ = conn.Close()
			drainedAway(t, s)
			last := status(t, s).LastCut
			switch {
			case !c.cut && (err != nil || last != nil):
				t.Errorf("%v, %+v", err, last)
			case c.cut && (err == nil || took < 2*time.Second || last == nil || last.Cut == nil || last.Cut.Connections != 1):
				t.Errorf("%v after %v, %+v", err, took, last)
			}
		})
	}
}
