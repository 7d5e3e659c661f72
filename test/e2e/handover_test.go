package e2e

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/test/load"
	"github.com/masterd/masterd/test/service"
)

// steered is how long after a steer the version before may still answer on a
// kept connection.
const steered = 100 * time.Millisecond

// Whatever is reloaded and rolled back, not one connection is closed.
func TestNoConnectionIsClosed(t *testing.T) {
	besideOthers(t)
	s := started(t, nil)
	next(t, s, 1, "baked")
	const kept = 16
	first := crowd(t, s, 24, 2)
	ctx, cancel := context.WithCancel(context.Background())
	l := load.Start(ctx, load.Plan{Addr: s.Addr, Rate: loadRate(), Kept: kept, Path: "/upload", Body: 512})
	end := sync.OnceValue(func() *load.Result { cancel(); return l.Wait() })
	t.Cleanup(func() { end() })

	var late uint64
	// after has what a version answers count as late once its time is up.
	after := func(version string) (count func()) {
		time.Sleep(steered)
		then := l.Snapshot().Versions[version].Count
		return func() { late += l.Snapshot().Versions[version].Count - then }
	}
	n, every := times(100, 6), times(5, 3)
	serving := label(1)
	for i := 2; i <= n+1; i++ {
		rollsBack := i%every == 0
		s.Config.Set("rollout.bake", "200ms")
		if rollsBack {
			s.Config.Set("rollout.bake", "1m")
		}
		next(t, s, i, "serving")
		count := after(serving)
		if !rollsBack {
			baked(t, s)
			count()
			serving = label(i)
			continue
		}
		time.Sleep(steered)
		count()
		back(t, s, "")
		count = after(label(i))
		time.Sleep(steered)
		count()
	}
	res := end()
	t.Logf("%d reloads, every %dth rolled back:\n%s  answers from the version before, on kept connections, later than %s after the steer: %d", n, every, res, steered, late)
	if res.Failed() > 0 || res.ClosedPolitely+res.ClosedIdle > 0 || res.Connections != kept {
		t.Errorf("%d requests failed; of %d connections for %d clients %d were closed politely, %d while idle", res.Failed(), res.Connections, kept, res.ClosedPolitely, res.ClosedIdle)
	}
	if late > 0 && *full { // timing: judged where nothing runs beside it
		t.Errorf("%d answers came from the version before, more than %s after the steer", late, steered)
	}
	for _, c := range first {
		if err := c.ask(serving); err != nil {
			t.Error("a connection of the first version:", err)
		}
	}
}

// idle is a connection on which nothing is said for long.
type idle struct {
	conn net.Conn
	in   *bufio.Reader
}

// crowd opens n connections. Each asked-th of them has had an answer; the others were
// never read from, as those that browsers open in advance.
func crowd(t *testing.T, s *service.Service, n, asked int) []*idle {
	t.Helper()
	all := make([]*idle, n)
	for i := range all {
		c, err := newIdle(s.Addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.conn.Close() })
		all[i] = c
		if i%asked == 0 {
			if err := c.ask(""); err != nil {
				t.Fatal(err)
			}
		}
	}
	return all
}

func newIdle(addr string) (*idle, error) {
	conn, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return nil, err
	}
	return &idle{conn, bufio.NewReaderSize(conn, 1024)}, nil
}

// ask makes a request, which this version must answer; empty: any.
func (c *idle) ask(version string) error {
	_ = c.conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c.conn, "GET /ping HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		return err
	}
	res, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return err
	}
	body, err := io.ReadAll(res.Body)
	switch by := res.Header.Get("X-Worker-Version"); {
	case err != nil:
		return err
	case res.StatusCode != http.StatusOK || res.Close:
		return fmt.Errorf("status %d, Connection: close %v: %s", res.StatusCode, res.Close, body)
	case version != "" && by != version:
		return fmt.Errorf("answered by %s, not %s", by, version)
	}
	return nil
}

// Connections that wait to be accepted when the traffic moves are served by
// whoever's queue they are in.
func TestQueueAtTheSwitchIsServed(t *testing.T) {
	besideOthers(t)
	s := started(t, func(c service.Config) { c.Set("rollout.bake", "1m") })
	old, err := s.Worker(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(old, syscall.SIGSTOP); err != nil { // it accepts nothing
		t.Fatal(err)
	}
	const queued = 500
	var all []*idle
	for range queued {
		conn, err := net.DialTimeout("tcp", s.Addr, patience)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		all = append(all, &idle{conn, bufio.NewReader(conn)})
	}
	next(t, s, 2, "serving")
	if err := syscall.Kill(old, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	var asks sync.WaitGroup
	for i, c := range all {
		asks.Go(func() {
			if err := c.ask(""); err != nil {
				t.Errorf("connection %d of the queue: %v", i, err)
			}
		})
	}
	asks.Wait()
	for i, c := range all { // and they are the new version's now
		if err := c.ask("v2"); err != nil {
			t.Errorf("connection %d of the queue: %v", i, err)
		}
	}
}

// moment is short beside the time that it takes to give many connections away.
const moment = 100 * time.Microsecond

// tries is how many reloads a test may take for each moment that it wants to catch.
const tries = 5

// A worker that dies, or is stopped, while it is given connections takes no more with
// it than it has. The giver serves all others. Whoever watches a machine that is busy
// may see the middle too late, when everything has moved: then it is tried again.
func TestTakerEndsInTheMiddle(t *testing.T) {
	besideOthers(t)
	for _, end := range []struct {
		name      string
		sig       syscall.Signal
		n, inFull int
	}{{"killed", syscall.SIGKILL, 2, 20}, {"stopped", syscall.SIGSTOP, 1, 5}} {
		t.Run(end.name, func(t *testing.T) {
			if end.sig == syscall.SIGSTOP && !*full {
				t.Skip("takes half a minute: make e2e")
			}
			s := started(t, func(c service.Config) {
				c.Set("rollout.bake", "5m").Set("rollout.cooldown", "0s").Set("rollout.max_per_minute", 600)
			})
			n, size := times(end.inFull, end.n), times(5000, 1000)
			for i, caught := 2, 0; caught < n; i++ {
				if i > 2+tries*n {
					t.Fatalf("in %d reloads only %d takers stood still before they had everything", i-2, caught)
				}
				all := crowd(t, s, size, 1) // who has asked nothing for ten seconds is closed, whatever happens here
				wait(t, s, "the connections to be accepted", func(st api.Status) bool { return open(st) == int64(size) })
				s.Config.Set("worker.env.RELEASE", label(i))
				if err := s.Write(); err != nil {
					t.Fatal(err)
				}
				reloaded := make(chan error, 1)
				go func() {
					_, err := s.API.Reload(t.Context(), api.ReloadRequest{Label: label(i), Until: "baked"}, nil)
					reloaded <- err
				}()
				taker := candidate(t, s, label(i))
				// It is in the middle once it has a part of them. What it has is counted while
				// it stands still.
				part := 100 + (2+caught)*size/(2*n+4)
				for until := time.Now().Add(patience); ; {
					held, err := descriptors(taker)
					if err != nil {
						t.Fatal(err)
					}
					if held >= part {
						break
					}
					time.Sleep(moment)
					if time.Now().After(until) {
						t.Fatalf("after %s it has %d descriptors, and not %d", patience, held, part)
					}
				}
				if err := syscall.Kill(taker, syscall.SIGSTOP); err != nil {
					t.Fatal(err)
				}
				has := settled(t, taker)
				if err := syscall.Kill(taker, end.sig); err != nil {
					t.Fatal(err)
				}
				if has < size {
					caught++
				}
				if err := <-reloaded; err != nil {
					t.Fatal(err)
				}
				wait(t, s, "the version before to serve", func(st api.Status) bool {
					return st.State == "serving" && working(st) == 1 && st.Active.Version.Label != label(i)
				})
				lost := 0
				for _, c := range all {
					if c.ask("") != nil {
						lost++
					}
				}
				t.Logf("%s with %d descriptors, of %d connections: %d lost", end.name, has, size, lost)
				// All that are left are in the giver's books: none was lost from there.
				wait(t, s, "the rest to be where it was", func(st api.Status) bool { return open(st) == int64(size-lost) })
				if lost > has {
					t.Errorf("%d of %d connections were lost; it had %d descriptors", lost, size, has)
				}
				for _, c := range all {
					c.conn.Close()
				}
				wait(t, s, "the clients to be gone", func(st api.Status) bool { return open(st) == 0 })
			}
		})
	}
}

// working is how many workers there are.
func working(st api.Status) (n int) {
	for _, g := range st.Generations {
		n += len(g.Workers)
	}
	return n
}

// open is how many connections the workers have.
func open(st api.Status) (n int64) {
	for _, g := range st.Generations {
		for _, w := range g.Workers {
			n += w.Open
		}
	}
	return n
}

// candidate is the process of the version that is being started.
func candidate(t *testing.T, s *service.Service, version string) (pid int) {
	t.Helper()
	wait(t, s, version+" to be started", func(st api.Status) bool {
		for _, g := range st.Generations {
			if g.Version.Label == version && len(g.Workers) == 1 {
				pid = g.Workers[0].PID
			}
		}
		return pid != 0
	})
	return pid
}

// settled is how many descriptors a process has that was told to stop, once it has.
func settled(t *testing.T, pid int) (n int) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			t.Fatal(err)
		}
		if n, err = descriptors(pid); err == nil && bytes.Contains(stat, []byte(") T ")) {
			return n
		}
	}
	t.Fatalf("process %d has not stopped", pid)
	return 0
}

// descriptors counts those that a process has.
func descriptors(pid int) (int, error) {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	if st, err := os.Stat(dir); err != nil || st.Size() > 0 { // Linux 6.2 and later
		if err != nil {
			return 0, err
		}
		return int(st.Size()), nil
	}
	all, err := os.ReadDir(dir)
	return len(all), err
}
