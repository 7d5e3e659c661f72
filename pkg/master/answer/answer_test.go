package answer

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"
)

const patience = 10 * time.Second

// pair is a TCP connection.
func pair(t *testing.T) (client, server net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err = net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	client.SetDeadline(time.Now().Add(patience))
	server, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return client, server
}

func answerer(t *testing.T, mode string, hold time.Duration) *Answerer {
	a := New(mode, hold, 1500*time.Millisecond)
	t.Cleanup(a.Close)
	return a
}

// isReset: the client is told at once that nobody is there.
func isReset(t *testing.T, c net.Conn) {
	t.Helper()
	if _, err := io.ReadAll(c); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read: %v, want a reset", err)
	}
}

func TestAnswers503(t *testing.T) {
	for _, method := range []string{"GET", "HEAD", "POST"} {
		t.Run(method, func(t *testing.T) {
			a := answerer(t, Mode503, 0)
			c, s := pair(t)
			a.Take(s, true)
			request := method + " /x HTTP/1.1\r\nHost: shop\r\n"
			if method == "POST" {
				request += "Content-Length: 300000\r\n"
			}
			for _, part := range []string{request, "\r", "\n"} { // in pieces
				if _, err := io.WriteString(c, part); err != nil {
					t.Fatal(err)
				}
			}
			if method == "POST" { // a body that nobody wants must not turn the answer into a reset
				if _, err := io.WriteString(c, strings.Repeat("x", 300000)); err != nil {
					t.Fatal(err)
				}
			}
			r, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(r.Body)
			if err != nil {
				t.Fatal(err)
			}
			if r.StatusCode != 503 || !r.Close || r.Header.Get("Retry-After") != "2" {
				t.Errorf("%v, close %v, %v", r.Status, r.Close, r.Header)
			}
			if (len(body) > 0) != (method != "HEAD") {
				t.Errorf("the body is %q", body)
			}
		})
	}
}

func TestResets(t *testing.T) {
	for name, c := range map[string]struct {
		mode string
		http bool
		sent string
	}{
		"mode reset":  {ModeReset, true, ""},
		"not HTTP":    {Mode503, false, ""},
		"TLS":         {Mode503, true, "\x16\x03\x01\x02\x00"},
		"HTTP/2":      {Mode503, true, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"},
		"head of MiB": {Mode503, true, "GET /" + strings.Repeat("x", maxHead)},
		"held":        {ModeHold, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			a := answerer(t, c.mode, time.Millisecond)
			client, s := pair(t)
			a.Take(s, c.http)
			if c.sent != "" { // an empty write would take the reset away from the read
				if _, err := io.WriteString(client, c.sent); err != nil {
					t.Fatal(err)
				}
			}
			isReset(t, client)
		})
	}
}

// A client that is held gets its answer after the hold, not before.
func TestHold(t *testing.T) {
	const hold = 100 * time.Millisecond
	a := answerer(t, ModeHold, hold)
	c, s := pair(t)
	begin := time.Now()
	a.Take(s, true)
	fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: shop\r\n\r\n")
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || r.StatusCode != 503 {
		t.Fatal(r, err)
	}
	if d := time.Since(begin); d < hold {
		t.Errorf("it was answered after %v", d)
	}
}

// Close ends those that are held, slow, or have been answered and stay.
func TestCloseWaitsForNobody(t *testing.T) {
	held := New(ModeHold, time.Hour, 0)
	plain := New(Mode503, 0, 0)
	c1, s1 := pair(t)
	held.Take(s1, true)
	c2, s2 := pair(t) // says nothing
	plain.Take(s2, true)
	c3, s3 := pair(t) // does not go
	plain.Take(s3, true)
	fmt.Fprint(c3, "GET / HTTP/1.1\r\n\r\n")
	if r, err := http.ReadResponse(bufio.NewReader(c3), nil); err != nil || r.StatusCode != 503 {
		t.Fatal(r, err)
	}
	begin := time.Now()
	held.Close()
	plain.Close()
	plain.Close()
	if d := time.Since(begin); d > lingerTimeout/2 {
		t.Errorf("closing took %v", d)
	}
	isReset(t, c1)
	isReset(t, c2)
	c4, s4 := pair(t)
	plain.Take(s4, true)
	isReset(t, c4)
}

// More than the limit are refused at once, and room is given back.
func TestLimit(t *testing.T) {
	a := answerer(t, ModeHold, time.Hour)
	for range maxAnswers {
		_, s := net.Pipe()
		a.Take(s, true)
	}
	c, s := pair(t)
	a.Take(s, true)
	isReset(t, c)
	a.Close()
	if len(a.open) > 0 {
		t.Errorf("%d are still open", len(a.open))
	}
}

// A Unix connection has no reset; it is closed.
func TestUnix(t *testing.T) {
	a := answerer(t, ModeReset, 0)
	c, s := net.Pipe()
	a.Take(s, true)
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("it is open")
	}
}

// A client's head is read up to its end, in whatever pieces it comes, and no further than
// is allowed.
func FuzzHead(f *testing.F) {
	f.Add([]byte("GET / HTTP/1.1\r\nHost: shop\r\n\r\nbody"), []byte{1, 30, 3})
	f.Add([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), []byte{})
	f.Add([]byte{22, 3, 1, 0, 100}, []byte{2})
	f.Add([]byte("POST\n\n"), []byte{1, 1, 1, 1, 1})
	a := New(Mode503, 0, 1500*time.Millisecond)
	f.Cleanup(a.Close)
	f.Fuzz(func(t *testing.T, head, pieces []byte) {
		client, server := net.Pipe()
		defer client.Close()
		go func() {
			defer server.Close()
			for rest := head; len(rest) > 0; {
				n := len(rest)
				if len(pieces) > 0 {
					n, pieces = min(n, 1+int(pieces[0])), pieces[1:]
				}
				if _, err := server.Write(rest[:n]); err != nil {
					return
				}
				rest = rest[n:]
			}
		}()
		method, ok := a.readHead(client)
		upper := len(head) > 0 && head[0] >= 'A' && head[0] <= 'Z'
		ends := bytes.Contains(head, []byte("\r\n\r\n")) || bytes.Contains(head, []byte("\n\n"))
		if ok && (!upper || !ends || method == "PRI" || !bytes.HasPrefix(head, []byte(method))) {
			t.Errorf("%q is taken for the head of a %q", head, method)
		}
		if !ok && upper && ends && len(head) < maxHead && method != "PRI" && bytes.Count(head, []byte("\n\n")) > 0 {
			t.Errorf("%q is not taken for a head", head)
		}
	})
}
