package admin

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/master/admin/admintest"
)

// People of the tests.
const (
	masterUID    = 900
	readersGID   = 4711
	operatorsGID = 4712
)

// stage is a server whose next connections come from whom the test says.
type stage struct {
	*Server
	t     testing.TB
	path  string
	as    atomic.Pointer[ipc.Cred]
	flood sync.Map // credentials of those who come from an address of their own
}

// begin serves a backend as a service "shop" until the test ends.
func begin(t testing.TB, b Backend, change func(*Options)) *stage {
	t.Helper()
	o := Options{
		Path: filepath.Join(shortDir(t), "admin.sock"), Backend: b, Log: zap.NewNop(),
		Service: "shop", MasterUID: masterUID, ReadersGroup: "4711", OperatorsGroup: "4712",
	}
	if change != nil {
		change(&o)
	}
	st := &stage{t: t, path: o.Path}
	st.comes(ipc.Cred{UID: 0})
	s, err := listen(o, func(c *net.UnixConn) (ipc.Cred, error) {
		if cred, ok := st.flood.Load(c.RemoteAddr().String()); ok {
			return cred.(ipc.Cred), nil
		}
		return *st.as.Load(), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	st.Server = s
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Errorf("closing: %v", err)
		}
	})
	return st
}

// shortDir is one whose sockets' paths are not too long.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "adm")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func (s *stage) comes(c ipc.Cred) { s.as.Store(&c) }

// do asks as curl would and returns the status and the body.
func (s *stage) do(method, path, body string, headers ...string) (int, string) {
	s.t.Helper()
	c := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", s.path)
		},
	}}
	req, err := http.NewRequestWithContext(s.t.Context(), method, "http://masterd"+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	for _, h := range headers {
		k, v, _ := strings.Cut(h, ": ")
		req.Header.Set(k, v)
	}
	resp, err := c.Do(req)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	return resp.StatusCode, strings.TrimSpace(string(b))
}

// sentence is what a refusal says.
func sentence(t *testing.T, body string) string {
	t.Helper()
	var e api.Error
	if err := json.Unmarshal([]byte(body), &e); err != nil || e.Error == "" {
		t.Fatalf("the refusal %q is not an api.Error: %v", body, err)
	}
	return e.Error
}

func (s *stage) dial() net.Conn {
	s.t.Helper()
	c, err := net.Dial("unix", s.path)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	return c
}

// eventually waits for a fact.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !is(); {
		if time.Now().After(end) {
			t.Fatalf("never came: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

func (s *stage) open() int {
	s.crowd.mu.Lock()
	defer s.crowd.mu.Unlock()
	return len(s.crowd.conns)
}

func TestSocket(t *testing.T) {
	mode := func(s *stage) fs.FileMode {
		info, err := os.Stat(s.path)
		if err != nil {
			t.Fatal(err)
		}
		return info.Mode().Perm()
	}
	t.Run("is private without groups", func(t *testing.T) {
		s := begin(t, &admintest.Backend{}, func(o *Options) { o.ReadersGroup, o.OperatorsGroup = "", "" })
		if m := mode(s); m != 0o600 {
			t.Errorf("the mode is %o", m)
		}
		if err := s.SetAccess("", "4711", ""); err != nil {
			t.Fatal(err)
		}
		if m := mode(s); m != 0o666 {
			t.Errorf("with readers the mode is %o", m)
		}
	})
	t.Run("takes the place of a dead master's", func(t *testing.T) {
		path := filepath.Join(shortDir(t), "admin.sock")
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
		if err != nil {
			t.Fatal(err)
		}
		l.SetUnlinkOnClose(false)
		l.Close()
		s := begin(t, &admintest.Backend{}, func(o *Options) { o.Path = path })
		if code, _ := s.do("GET", "/v1/status", ""); code != 200 {
			t.Errorf("answered %d", code)
		}
	})
	t.Run("goes with the server", func(t *testing.T) {
		s := begin(t, &admintest.Backend{}, nil)
		if err := s.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(s.path); !os.IsNotExist(err) {
			t.Errorf("it is still there: %v", err)
		}
	})
}

func TestListenErrors(t *testing.T) {
	file := filepath.Join(shortDir(t), "admin.sock")
	if err := os.WriteFile(file, []byte("precious"), 0o644); err != nil {
		t.Fatal(err)
	}
	long := filepath.Join(shortDir(t), strings.Repeat("x", 100), "admin.sock")
	lost := filepath.Join(shortDir(t), "missing", "admin.sock")
	for _, c := range []struct {
		o    Options
		want string
	}{
		{Options{Path: file}, file + ": there is something that is not a socket; move it away, or set another runtime_dir"},
		{Options{Path: long}, fmt.Sprintf("its path is %d bytes long and a Unix socket's can be 107; set a shorter runtime_dir", len(long))},
		{Options{Path: lost}, "making the admin socket: listen unix " + lost + ": bind: no such file or directory"},
		{Options{Path: file, ReadersGroup: "no-such-group"}, `admin.readers_group: looking up the group "no-such-group": group: unknown group no-such-group; create it, or name another one`},
		{Options{Path: file, OperatorsGroup: "-1"}, `admin.operators_group: looking up the group "-1"`},
	} {
		c.o.Log, c.o.Backend = zap.NewNop(), &admintest.Backend{}
		if s, err := Listen(c.o); err == nil {
			s.Close(t.Context())
			t.Errorf("%+v was accepted", c.o)
		} else if !strings.Contains(err.Error(), c.want) {
			t.Errorf("the error is %q, want %q", err, c.want)
		}
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "precious" {
		t.Errorf("the file in the way holds %q, %v", b, err)
	}
}

func TestStreamComesAsItHappens(t *testing.T) {
	events := make(chan api.Event, 8)
	s := begin(t, &admintest.Backend{Change: func(admintest.Call) (<-chan api.Event, error) { return events, nil }}, nil)
	c := s.dial()
	fmt.Fprint(c, "POST /v1/reload HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || resp.StatusCode != 200 || resp.Header.Get("Content-Type") != api.StreamType {
		t.Fatalf("answered %+v, %v", resp, err)
	}
	dec := json.NewDecoder(resp.Body)
	for _, name := range []string{"start", "check", "serving"} {
		events <- api.Event{Stage: &api.Stage{Stage: name}}
		var ev api.Event
		if err := dec.Decode(&ev); err != nil || ev.Stage == nil || ev.Stage.Stage != name {
			t.Fatalf("read %+v, %v; want the stage %s before anything follows", ev, err, name)
		}
	}
	events <- api.Event{Outcome: &api.Outcome{Result: api.ResultDone}}
	close(events)
	var ev api.Event
	if err := dec.Decode(&ev); err != nil || ev.Outcome == nil {
		t.Fatalf("read %+v, %v; want the outcome", ev, err)
	}
	if err := dec.Decode(&ev); err != io.EOF {
		t.Errorf("after the outcome: %v", err)
	}
}

func TestReaderGoesAway(t *testing.T) {
	events := make(chan api.Event, 8)
	s := begin(t, &admintest.Backend{Change: func(admintest.Call) (<-chan api.Event, error) { return events, nil }}, nil)
	c := s.dial()
	fmt.Fprint(c, "POST /v1/reload HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
	if _, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil {
		t.Fatal(err)
	}
	c.Close()
	eventually(t, "the connection is forgotten", func() bool { return s.open() == 0 })
	// The backend goes on as if nothing had been.
	events <- api.Event{Outcome: &api.Outcome{Result: api.ResultDone}}
	close(events)
}

func TestCloseWaitsForAnswers(t *testing.T) {
	events := make(chan api.Event, 8)
	asked := make(chan struct{})
	s := begin(t, &admintest.Backend{Change: func(admintest.Call) (<-chan api.Event, error) { close(asked); return events, nil }}, nil)
	got := make(chan error, 1)
	go func() {
		o, err := api.NewClient(s.path, "").Stop(t.Context(), api.StopRequest{}, nil)
		if err == nil && o.Result != api.ResultDone {
			err = fmt.Errorf("outcome %+v", o)
		}
		got <- err
	}()
	<-asked
	closed := make(chan error, 1)
	go func() { closed <- s.Close(t.Context()) }()
	<-s.ending
	select {
	case err := <-closed:
		t.Fatalf("closed (%v) before the answer was given", err)
	case err := <-got:
		t.Fatalf("answered (%v) before there was anything to say", err)
	default:
	}
	events <- api.Event{Outcome: &api.Outcome{Result: api.ResultDone}}
	close(events)
	if err := <-got; err != nil {
		t.Errorf("the one who asked got %v", err)
	}
	if err := <-closed; err != nil {
		t.Errorf("closing: %v", err)
	}
}

func TestCloseHasAnEnd(t *testing.T) {
	asked := make(chan struct{})
	s := begin(t, &admintest.Backend{Change: func(admintest.Call) (<-chan api.Event, error) {
		close(asked)
		return make(chan api.Event), nil // for ever
	}}, nil)
	got := make(chan error, 1)
	go func() {
		_, err := api.NewClient(s.path, "").Abort(t.Context(), api.ReasonRequest{}, nil)
		got <- err
	}()
	<-asked
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Close(ctx); err == nil || !strings.Contains(err.Error(), "while requests are being answered") {
		t.Errorf("closing: %v", err)
	}
	if err := <-got; err == nil {
		t.Error("the one who asked was told an outcome")
	}
}

func TestCloseEndsFollowing(t *testing.T) {
	b := &admintest.Backend{Lines: []api.LogLine{{Worker: 1, Text: "a"}}}
	s := begin(t, b, nil)
	got, first := make(chan error, 1), make(chan struct{})
	go func() {
		got <- api.NewClient(s.path, "").Logs(t.Context(), 0, 10, true, func(api.LogLine) error { close(first); return nil })
	}()
	<-first
	if err := s.Close(t.Context()); err != nil {
		t.Errorf("closing: %v", err)
	}
	if err := <-got; err != nil {
		t.Errorf("the follower got %v", err)
	}
	b.Wait()
}

func TestReaderThatDoesNotRead(t *testing.T) {
	// The stream ends with the reader's patience, not with the test's: what is
	// checked is that a flood of lines nobody reads holds nobody else up.
	b := &admintest.Backend{Following: func(ctx context.Context, to chan<- api.LogLine) {
		for {
			select {
			case to <- api.LogLine{Text: strings.Repeat("x", 8<<10)}:
			case <-ctx.Done():
				return
			}
		}
	}}
	s := begin(t, b, nil)
	c := s.dial()
	fmt.Fprint(c, "GET /v1/logs?follow=1 HTTP/1.1\r\nHost: x\r\n\r\n")
	if code, _ := s.do("GET", "/v1/status", ""); code != 200 {
		t.Errorf("answered %d", code)
	}
	c.Close()
	eventually(t, "the connection is forgotten", func() bool { return s.open() == 0 })
	b.Wait()
}

func TestPanicIsAnswered(t *testing.T) {
	s := begin(t, &admintest.Backend{Change: func(admintest.Call) (<-chan api.Event, error) { panic("oh") }}, nil)
	code, body := s.do("POST", "/v1/promote", "")
	if code != 500 || !strings.Contains(sentence(t, body), "The service itself is not affected.") {
		t.Errorf("answered %d %s", code, body)
	}
	if code, _ := s.do("GET", "/v1/status", ""); code != 200 {
		t.Errorf("afterwards answered %d", code)
	}
}

// A peer may send descriptors that are not closed as long as it likes. The end does not
// wait for that, neither where they were read nor where they are queued.
func TestWhatAPeerSendsMayHang(t *testing.T) {
	st := begin(t, &admintest.Backend{}, nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("unix", st.path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var ours sync.WaitGroup // closes that wait if the server's were first, until the other ends reset
	defer ours.Wait()
	for _, text := range []string{"GET ", "/status"} {
		out, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		in, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		_ = out.(*net.TCPConn).SetLinger(120)
		_ = out.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
		_, _ = out.Write(make([]byte, 8<<20))
		f, err := out.(*net.TCPConn).File()
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = c.(*net.UnixConn).WriteMsgUnix([]byte(text), unix.UnixRights(int(f.Fd())), nil)
		if err != nil && !errors.Is(err, unix.EPIPE) { // the first has ended it
			t.Fatal(err)
		}
		ours.Go(func() {
			f.Close()
			out.Close()
		})
	}
	eventually(t, "the server to have taken the connection", func() bool { return st.Counts().Accepted == 1 })
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := st.Close(ctx); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("the end has waited for %v", took)
	}
}

// Whatever a body and a query say is done or refused in words: it is never masterd's own
// fault, and the answer is JSON.
func FuzzAsk(f *testing.F) {
	for _, body := range []string{"", "{}", `{"label":"v2","until":"baked"}`, `{"reason":1}`, `{"lable":"v2"}`, "[]", "null", "{}{}", "\xff", `{"processes":1e99}`} {
		f.Add(body, "1")
	}
	f.Add("", "-1&\x00")
	st := begin(f, &admintest.Backend{}, nil)
	f.Fuzz(func(t *testing.T, body, query string) {
		st.t = t
		for _, path := range []string{"/v1/reload", "/v1/scale", "/v1/hold"} {
			code, answer := st.do("POST", path, body)
			if code >= 500 || code < 200 {
				t.Errorf("%s: %d %s", path, code, answer)
			}
			for line := range strings.Lines(answer) {
				if !json.Valid([]byte(line)) {
					t.Errorf("%s: %d %q", path, code, line)
				}
			}
		}
		if code, answer := st.do("GET", "/v1/history?n="+url.QueryEscape(query), ""); code >= 500 {
			t.Errorf("%d %s", code, answer)
		}
	})
}
