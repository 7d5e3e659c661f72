package programs

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/test/service"
	"github.com/masterd/masterd/test/service/servicetest"
)

// countPause is a client's pause between two requests.
const countPause = 50 * time.Millisecond

// counting are clients of Redis that count, and never try again.
type counting struct {
	addr     string
	answered atomic.Int64
	lost     atomic.Int64 // was asked on a kept connection, and the connection ended in the place of an answer
	mu       sync.Mutex
	wrong    []error
}

// increment asks once; ended: the connection did in the place of an answer.
func (c *counting) increment(conn net.Conn, r *bufio.Reader) (ended bool, err error) {
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return false, err
	}
	if _, err := io.WriteString(conn, "INCR n\r\n"); err != nil {
		return true, err
	}
	line, err := r.ReadString('\n')
	if err != nil {
		return true, err
	}
	if !strings.HasPrefix(line, ":") {
		return false, errors.New(strings.TrimSpace(line))
	}
	c.answered.Add(1)
	return false, nil
}

func (c *counting) fails(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wrong = append(c.wrong, err)
}

// freshly asks each time on a connection of its own.
func (c *counting) freshly(ctx context.Context) {
	for ; ctx.Err() == nil; time.Sleep(countPause) {
		conn, err := net.Dial("tcp", c.addr)
		if err == nil {
			_, err = c.increment(conn, bufio.NewReader(conn))
			conn.Close()
		}
		if err != nil {
			c.fails(err)
		}
	}
}

// keeping keeps its connection for as long as it is left to it.
func (c *counting) keeping(ctx context.Context) {
	var conn net.Conn
	var r *bufio.Reader
	for ; ctx.Err() == nil; time.Sleep(countPause) {
		if conn != nil && gone(conn, r) {
			conn.Close()
			conn = nil
		}
		var err error
		if conn == nil {
			if conn, err = net.Dial("tcp", c.addr); err != nil {
				c.fails(err)
				conn = nil
				continue
			}
			r = bufio.NewReader(conn)
		}
		switch ended, err := c.increment(conn, r); {
		case ended:
			c.lost.Add(1)
			conn.Close()
			conn = nil
		case err != nil:
			c.fails(err)
		}
	}
	if conn != nil {
		conn.Close()
	}
}

// gone: it was closed between two requests.
func gone(conn net.Conn, r *bufio.Reader) bool {
	if err := conn.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
		return true
	}
	_, err := r.Peek(1)
	return !errors.Is(err, os.ErrDeadlineExceeded)
}

// Redis has its data in memory. One version follows the other, and who counts by it meanwhile
// is answered, each time, and what was answered is not forgotten.
func TestRedis(t *testing.T) {
	besideOthers(t)
	p := program{name: "redis", example: "redis", needs: "/usr/bin/redis-server"}
	if _, err := os.Stat(p.needs); err != nil {
		if *must {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	dir := servicetest.ShortDir(t)
	s, err := service.New(built, servicetest.ShortDir(t))
	if err != nil {
		t.Fatal(err)
	}
	p.layOut(t, s, dir)
	s.Config.Set("drain.timeout", "2s") // what is kept here is closed in its last second
	servicetest.StopAtEnd(t, s)
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	c := &counting{addr: s.Addr}
	fill(t, s.Addr)
	ctx, cancel := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	const kept = 4
	for range kept {
		clients.Go(func() { c.freshly(ctx) })
		clients.Go(func() { c.keeping(ctx) })
	}
	for i := range *reloads {
		s.Config.Set("worker.env.RELEASE", fmt.Sprintf("v%d", i+2))
		if err := s.Write(); err != nil {
			t.Fatal(err)
		}
		if out, err := s.API.Reload(t.Context(), api.ReloadRequest{Until: "baked"}, nil); err != nil || out.Result != api.ResultDone {
			t.Fatalf("reload %d: %+v, %v", i+1, out, err)
		}
	}
	cancel()
	clients.Wait()
	answered, lost := c.answered.Load(), c.lost.Load()
	t.Logf("%d counted, %d lost on kept connections, over %d reloads", answered, lost, *reloads)
	for _, err := range c.wrong {
		t.Errorf("a client that is not to notice: %v", err)
	}
	// What clients keep is no HTTP: at the end of a drain it is cut, at a quiet moment if one comes.
	if lost > int64(kept**reloads) {
		t.Errorf("%d were lost, on %d connections", lost, kept)
	}
	if n := number(t, s.Addr); n < answered || n > answered+lost {
		t.Errorf("it has counted to %d, and answered %d", n, answered)
	}
}

// fill gives it more than it reads without a look at its clients, if it is not told to: 2 MB.
func fill(t *testing.T, addr string) {
	t.Helper()
	const many, size = 40_000, 200
	value := make([]byte, size)
	_, _ = rand.Read(value) // so that it does not get smaller on the disk
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var writing sync.WaitGroup
	defer writing.Wait()
	writing.Go(func() {
		w := bufio.NewWriter(conn)
		for i := range many {
			fmt.Fprintf(w, "SET key:%d %x\r\n", i, value)
		}
		if err := w.Flush(); err != nil {
			t.Error(err)
		}
	})
	r := bufio.NewReader(conn)
	for range many {
		if line, err := r.ReadString('\n'); err != nil || line != "+OK\r\n" {
			t.Fatalf("%q, %v", line, err)
		}
	}
}

// number is what it has counted to.
func number(t *testing.T, addr string) int64 {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "INCRBY n 0\r\n"); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.ParseInt(strings.TrimSpace(strings.TrimPrefix(line, ":")), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
