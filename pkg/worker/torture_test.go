//go:build linux

package worker

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/worker/internal/tasks"
	"github.com/masterd/masterd/pkg/worker/internal/workertest"
)

// Clients that send as clients do, and as none should: requests in pieces down
// to single bytes, several at once, chunked bodies, bodies that wait for 100
// Continue. Meanwhile the traffic goes to and fro between two workers. Every
// request must have its own answer, in order, on the connection on which it
// was sent.
func TestNoByteIsLostWhileConnectionsMove(t *testing.T) {
	c := newCouple(t, func(name string, w *Worker) {
		w.Handle("http", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			h := sha256.New()
			n, err := io.Copy(h, r.Body)
			if err != nil {
				panic(http.ErrAbortHandler)
			}
			fmt.Fprintf(rw, "%s %d %x", r.URL.Path, n, h.Sum(nil)[:8])
		}))
	})
	const clients, requests = 12, 60
	var done atomic.Int64
	var enough atomic.Bool // connections have moved
	var all tasks.Group
	for i := range clients {
		k := workertest.Dial(t, c.slot.addr)
		all.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 1))
			for n := 0; n < requests || !enough.Load(); {
				sent, err := batterer{k}.batter(r, n)
				if err != nil {
					t.Errorf("client %d, request %d: %v", i, n, err)
					return
				}
				n += sent
				done.Add(int64(sent))
			}
		})
	}
	ended := make(chan struct{})
	go func() { all.Wait(); close(ended) }()
	for moves := 0; ; moves++ {
		before := done.Load()
		c.switchOver()
		c.switchBack()
		enough.Store(moves >= 10 && c.old.core.Sender.Migrated()+c.new.core.Sender.Migrated() >= clients)
		// Some requests are made between two moves, whatever else the machine does.
		for done.Load() < before+3 {
			select {
			case <-ended:
				return
			case <-time.After(100 * time.Microsecond):
			}
		}
	}
}

// batterer sends what a client has to send in unusual ways.
type batterer struct{ *workertest.Client }

// batter sends one request in some way, or several at once, and wants the answers.
func (c batterer) batter(r *rand.Rand, n int) (sent int, err error) {
	body := strings.Repeat(string(rune('a'+n%26)), r.IntN(9000))
	sum := sha256.Sum256([]byte(body))
	path := fmt.Sprintf("/%d", n)
	want := fmt.Sprintf("%s %d %x", path, len(body), sum[:8])
	head := "POST " + path + " HTTP/1.1\r\nHost: x\r\n"
	plain := fmt.Sprintf("%sContent-Length: %d\r\n\r\n%s", head, len(body), body)
	c.Conn.SetDeadline(time.Now().Add(workertest.Patience))
	switch r.IntN(6) {
	case 0: // whole
		err = c.pieces(plain, len(plain))
	case 1: // in a few pieces
		err = c.pieces(plain, 1+r.IntN(len(plain)))
	case 2: // byte by byte through the head
		at := strings.Index(plain, "\r\n\r\n") + 4
		if err = c.pieces(plain[:at], 1); err == nil {
			err = c.pieces(plain[at:], len(plain))
		}
	case 3: // chunked
		var b strings.Builder
		b.WriteString(head + "Transfer-Encoding: chunked\r\n\r\n")
		for rest := body; len(rest) > 0; {
			size := 1 + r.IntN(len(rest))
			fmt.Fprintf(&b, "%x\r\n%s\r\n", size, rest[:size])
			rest = rest[size:]
		}
		b.WriteString("0\r\n\r\n")
		err = c.pieces(b.String(), 1+r.IntN(b.Len()))
	case 4: // several at once, the last one cut somewhere
		several := 2 + r.IntN(4)
		all := strings.Repeat(plain, several)
		at := len(all) - r.IntN(len(plain))
		if err = c.pieces(all[:at], at); err != nil {
			return 0, err
		}
		for i := range several {
			if i == several-1 {
				if err := c.pieces(all[at:], 1+len(all)-at); err != nil {
					return 0, err
				}
			}
			if err := c.answer(want); err != nil {
				return 0, err
			}
		}
		return several, nil
	case 5: // the body once it is asked for
		if err = c.pieces(fmt.Sprintf("%sExpect: 100-continue\r\nContent-Length: %d\r\n\r\n", head, len(body)), 1<<20); err != nil {
			return 0, err
		}
		if len(body) > 0 {
			if line, err := c.Reader.ReadString('\n'); err != nil || line != "HTTP/1.1 100 Continue\r\n" {
				return 0, fmt.Errorf("%q, %w", line, err)
			}
			c.Reader.ReadString('\n')
		}
		err = c.pieces(body, 1+len(body)/2)
	}
	if err != nil {
		return 0, err
	}
	return 1, c.answer(want)
}

// pieces sends s, so many bytes with each write.
func (c batterer) pieces(s string, size int) error {
	in := bufio.NewReader(strings.NewReader(s))
	for buf := make([]byte, min(size, max(len(s), 1))); ; {
		n, err := io.ReadFull(in, buf)
		if n > 0 {
			if _, err := c.Conn.Write(buf[:n]); err != nil {
				return err
			}
		}
		if err != nil {
			return nil // the end
		}
	}
}

func (c batterer) answer(want string) error {
	got, closing, err := c.Read()
	if err == nil && (got != want || closing) {
		err = fmt.Errorf("answer %q, Connection: close %v; wanted %q", got, closing, want)
	}
	return err
}
