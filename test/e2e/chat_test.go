package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"github.com/masterd/masterd/test/service"
)

// chatting is a service whose program is the chat room.
func chatting(t *testing.T, change func(c service.Config)) *service.Service {
	t.Helper()
	return started(t, func(c service.Config) {
		c.Set("worker.command", []string{programs.Chat})
		if change != nil {
			change(c)
		}
	})
}

// A chat room whose members stay connected while its program is replaced under
// them: nobody reconnects, and every member sees each message once, in order.
func TestRoomOutlivesItsProgram(t *testing.T) {
	besideOthers(t)
	s := chatting(t, nil)
	next(t, s, 1, "baked")
	const talkers, listeners = 8, 4
	var members []*guest
	for i := range talkers + listeners {
		enter := enterSocket
		if i >= talkers {
			enter = enterEvents
		}
		m, err := enter(t.Context(), s.Addr, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer m.conn.Close()
		members = append(members, m)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var said [talkers]int
	var talk, hear sync.WaitGroup
	for i := range talkers {
		talk.Go(func() {
			for ; ctx.Err() == nil; said[i]++ {
				if err := members[i].say(fmt.Sprintf("%d %d", i, said[i])); err != nil {
					t.Errorf("member %d cannot send: %v", i, err)
					return
				}
				time.Sleep(20 * time.Millisecond) // people do not type faster
			}
		})
	}
	for i, m := range members {
		hear.Go(func() { m.listen(t, fmt.Sprintf("member %d", i)) })
	}
	n, every := times(100, 5), 5
	for i := 2; i <= n+1; i++ {
		s.Config.Set("rollout.bake", "200ms")
		if i%every == 0 {
			s.Config.Set("rollout.bake", "1m")
			next(t, s, i, "serving")
			back(t, s, "")
			continue
		}
		next(t, s, i, "baked")
	}
	cancel()
	talk.Wait()
	total := 0
	for _, n := range said {
		total += n
	}
	for i, m := range members {
		eventually(t, fmt.Sprintf("member %d to have heard all %d messages; it has %d", i, total, m.heard.Load()), func() bool { return m.heard.Load() >= int64(total) })
	}
	for _, m := range members {
		m.conn.Close()
	}
	hear.Wait()
	t.Logf("%d reloads, every %dth rolled back: %d messages of %d talkers, each heard once and in order by %d WebSocket and %d event members on the connections they began with",
		n, every, total, talkers, talkers, listeners)
}

// guest is one connection of a client of the room.
type guest struct {
	conn  net.Conn
	next  func() (post, error) // of the room's messages
	heard atomic.Int64
}

type post struct {
	Seq    uint64
	Text   string
	Missed bool
}

// errGoodbye is the polite end of a guest's connection.
var errGoodbye = errors.New("the room asks to come back")

// enterSocket is a WebSocket that hears what comes after that message.
func enterSocket(ctx context.Context, addr string, after uint64) (*guest, error) {
	conn, br, _, err := ws.Dialer{Timeout: patience}.Dial(ctx, fmt.Sprintf("ws://%s/chat?after=%d", addr, after))
	if err != nil {
		return nil, err
	}
	var in io.Reader = conn
	if br != nil {
		in = br
	}
	return &guest{conn: conn, next: func() (p post, err error) {
		b, err := wsutil.ReadServerText(struct {
			io.Reader
			io.Writer
		}{in, conn})
		var closed wsutil.ClosedError
		if errors.As(err, &closed) && closed.Code == ws.StatusGoingAway {
			return p, errGoodbye
		}
		if err != nil {
			return p, err
		}
		if err := json.Unmarshal(b, &p); err != nil || p.Missed {
			return p, fmt.Errorf("it was told %q, %v", b, err)
		}
		return p, nil
	}}, nil
}

// enterEvents hears the same as events.
func enterEvents(ctx context.Context, addr string, after uint64) (*guest, error) {
	conn, err := (&net.Dialer{Timeout: patience}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	fmt.Fprintf(conn, "GET /events HTTP/1.1\r\nHost: x\r\nLast-Event-ID: %d\r\n\r\n", after)
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d", res.StatusCode)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	_ = conn.SetReadDeadline(time.Time{})
	in := bufio.NewReader(res.Body)
	return &guest{conn: conn, next: func() (p post, err error) {
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				return p, err
			}
			switch name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": "); name {
			case "id":
				if p.Seq, err = strconv.ParseUint(value, 10, 64); err != nil {
					return p, err
				}
			case "data":
				p.Text = value
			case "":
				return p, nil
			case "retry":
				return p, errGoodbye
			default:
				return p, fmt.Errorf("it was told %q", line)
			}
		}
	}}, nil
}

func (g *guest) say(text string) error {
	_ = g.conn.SetWriteDeadline(time.Now().Add(patience))
	return wsutil.WriteClientText(g.conn, []byte(text))
}

// listen wants each sender's messages once and in order, until the test closes
// the connection.
func (g *guest) listen(t *testing.T, who string) {
	wanted := map[int]int{}
	for {
		p, err := g.next()
		if err != nil {
			if !strings.Contains(err.Error(), "use of closed") {
				t.Errorf("%s, after %d messages: %v", who, g.heard.Load(), err)
			}
			return
		}
		var from, n int
		if _, err := fmt.Sscanf(p.Text, "%d %d", &from, &n); err != nil || n != wanted[from] {
			t.Errorf("%s heard %q, wanted number %d of %d; %v", who, p.Text, wanted[from], from, err)
			return
		}
		wanted[from]++
		g.heard.Add(1)
	}
}
