package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"github.com/masterd/masterd/test/service"
)

// A chat room whose members stay connected while its program is replaced under
// them: nobody reconnects, and every member sees each message once, in order.
func TestRoomOutlivesItsProgram(t *testing.T) {
	s := started(t, nil)
	next(t, s, 1, "baked")
	const talkers, listeners = 8, 4
	var members []*guest
	for range talkers {
		members = append(members, enterSocket(t, s))
	}
	for range listeners {
		members = append(members, enterEvents(t, s, ""))
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

// guest is a client of the room that never reconnects.
type guest struct {
	conn  net.Conn
	next  func() (text string, err error) // of the room's messages
	heard atomic.Int64
	last  string // event id
}

func enterSocket(t *testing.T, s *service.Service) *guest {
	t.Helper()
	conn, br, _, err := ws.Dialer{}.Dial(t.Context(), "ws://"+s.Addr+"/chat?after=0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	var in io.Reader = conn
	if br != nil {
		in = br
	}
	return &guest{conn: conn, next: func() (string, error) {
		b, err := wsutil.ReadServerText(struct {
			io.Reader
			io.Writer
		}{in, conn})
		if err != nil {
			return "", err
		}
		var post struct {
			Text   string
			Missed bool
		}
		if err := json.Unmarshal(b, &post); err != nil || post.Missed {
			return "", fmt.Errorf("%s, %w", b, err)
		}
		return post.Text, nil
	}}
}

// enterEvents listens from after that event on.
func enterEvents(t *testing.T, s *service.Service, last string) *guest {
	t.Helper()
	conn, err := net.DialTimeout("tcp", s.Addr, patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if last == "" {
		last = "0"
	}
	fmt.Fprintf(conn, "GET /events HTTP/1.1\r\nHost: x\r\nLast-Event-ID: %s\r\n\r\n", last)
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatal(res, err)
	}
	g := &guest{conn: conn}
	in := bufio.NewReader(res.Body)
	g.next = func() (text string, err error) {
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				return "", err
			}
			switch name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": "); name {
			case "id":
				g.last = value
			case "data":
				text = value
			case "":
				return text, nil
			default:
				return "", fmt.Errorf("%q", line)
			}
		}
	}
	return g
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
		text, err := g.next()
		if err != nil {
			if !strings.Contains(err.Error(), "use of closed") {
				t.Errorf("%s, after %d messages: %v", who, g.heard.Load(), err)
			}
			return
		}
		var from, n int
		if _, err := fmt.Sscanf(text, "%d %d", &from, &n); err != nil || n != wanted[from] {
			t.Errorf("%s heard %q, wanted number %d of %d; %v", who, text, wanted[from], from, err)
			return
		}
		wanted[from]++
		g.heard.Add(1)
	}
}
