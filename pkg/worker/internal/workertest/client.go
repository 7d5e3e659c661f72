package workertest

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// Client is a strict HTTP/1.1 client on one connection: it never retries, and
// sends nothing after an answer that said close.
type Client struct {
	Conn   net.Conn
	Reader *bufio.Reader
}

// Dial connects to addr. The connection is closed at the test's end.
func Dial(t *testing.T, addr string) *Client {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, Patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return On(c)
}

// On speaks HTTP on a connection, for Patience at most.
func On(c net.Conn) *Client {
	c.SetDeadline(time.Now().Add(Patience))
	return &Client{Conn: c, Reader: bufio.NewReader(c)}
}

// Write sends a request.
func (c *Client) Write(method, path, body string) error {
	_, err := fmt.Fprintf(c.Conn, "%s %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s",
		method, path, len(body), body)
	return err
}

// Read returns the whole answer; closing says whether it was the last one here.
func (c *Client) Read() (body string, closing bool, err error) {
	resp, err := http.ReadResponse(c.Reader, nil)
	if err != nil {
		return "", false, err
	}
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d: %s", resp.StatusCode, b)
	}
	return string(b), resp.Close, err
}

// Do sends a request and reads its answer.
func (c *Client) Do(method, path, body string) (string, bool, error) {
	if err := c.Write(method, path, body); err != nil {
		return "", false, err
	}
	return c.Read()
}

// Want makes a request that must be answered, and says close as wanted.
func (c *Client) Want(t *testing.T, path, body string, closing bool) {
	t.Helper()
	got, closes, err := c.Do("GET", path, "")
	if err != nil || got != body || closes != closing {
		t.Fatalf("GET %s: %q, Connection: close %v, error %v; wanted %q, %v", path, got, closes, err, body, closing)
	}
	if closing {
		c.WantEnd(t)
	}
}

// WantEnd wants the server to close without another byte.
func (c *Client) WantEnd(t *testing.T) {
	t.Helper()
	if b, err := c.Reader.ReadByte(); err != io.EOF {
		t.Fatalf("after the last answer: byte %d, error %v; wanted the end", b, err)
	}
}
