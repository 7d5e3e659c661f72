package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gobwas/ws"
)

const patience = 30 * time.Second

// The test binary is the program itself when it is told so.
func TestMain(m *testing.M) {
	if os.Getenv("CHAT_TEST_MAIN") != "" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// alone is the program without a master.
type alone struct {
	*exec.Cmd
	t   *testing.T
	url string
}

// start runs it until it answers.
func start(t *testing.T) *alone {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	d := &alone{Cmd: exec.Command(self, "-addr", addr), t: t, url: "http://" + addr}
	d.Env, d.Stderr = append(os.Environ(), "CHAT_TEST_MAIN=1"), os.Stderr
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { http.DefaultClient.CloseIdleConnections(); d.Process.Kill(); d.Wait() })
	eventually(t, "the room to listen", func() bool {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	return d
}

// exits waits for exit code 0.
func (d *alone) exits() {
	d.t.Helper()
	http.DefaultClient.CloseIdleConnections()
	d.Wait()
	if code := d.ProcessState.ExitCode(); code != 0 {
		d.t.Errorf("the room ended with %v", d.ProcessState)
	}
}

// Alone there is no successor: both are told politely.
func TestChatAlone(t *testing.T) {
	d := start(t)
	res, err := http.Get(d.url + "/chat?after=x")
	if err != nil {
		t.Fatal(err)
	}
	refused, err := io.ReadAll(res.Body)
	if res.Body.Close(); err != nil || res.StatusCode != 400 || !strings.Contains(string(refused), "number") {
		t.Errorf("%d %q, %v", res.StatusCode, refused, err)
	}
	conn, _, _, err := ws.Dial(t.Context(), "ws"+strings.TrimPrefix(d.url, "http")+"/chat")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ev, err := net.Dial("tcp", strings.TrimPrefix(d.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer ev.Close()
	fmt.Fprint(ev, "GET /events HTTP/1.1\r\nHost: x\r\nLast-Event-ID: 0\r\n\r\n")
	in := bufio.NewReader(ev)
	res, err = http.ReadResponse(in, nil)
	if err != nil || res.Header.Get("Content-Type") != "text/event-stream" || res.Header.Get("X-Worker-Version") == "" {
		t.Fatal(res, err)
	}
	conn.Write(ws.MustCompileFrame(ws.MaskFrame(ws.NewTextFrame([]byte("hello")))))
	next := posts(conn)
	if p, err := next(); err != nil || p.Text != "hello" || p.Seq != 1 {
		t.Fatal(p, err)
	}
	const event = "id: 1\ndata: hello\n\n"
	got := make([]byte, len(event)) // before the end: a frozen room sends nothing more
	if _, err := io.ReadFull(res.Body, got); err != nil || string(got) != event {
		t.Fatalf("%q, %v", got, err)
	}
	d.Process.Signal(syscall.SIGTERM)
	if _, err := next(); err == nil || !strings.HasPrefix(err.Error(), "closed 1001") {
		t.Error(err)
	}
	conn.Close()
	if b, err := io.ReadAll(res.Body); err != nil || string(b) != "retry: 100\n\n" {
		t.Errorf("%q, %v", b, err)
	}
	ev.Close()
	d.exits()
}
