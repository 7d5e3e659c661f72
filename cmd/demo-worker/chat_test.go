package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"github.com/gobwas/ws"
)

// Alone there is no successor: both are told politely.
func TestChatAlone(t *testing.T) {
	d := start(t)
	d.want("GET", "/chat?after=x", "", 400, "number")
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
	res, err := http.ReadResponse(in, nil)
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
