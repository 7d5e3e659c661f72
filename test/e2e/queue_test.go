package e2e

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/api"
)

// Clients wait in the queue of a program that crashes in a loop, and a good version
// takes the traffic. Who waits is served by the old version's own replacement, on the
// same socket, if one comes up in time; else by a 503, not before unavailable.after.
func TestQueueOfACrashLoop(t *testing.T) {
	besideOthers(t)
	for _, kind := range []string{"unmodified", "socket-activation"} {
		for _, recovers := range []bool{true, false} {
			name := kind + "/stays-down"
			if recovers {
				name = kind + "/comes-back"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				queueOfACrashLoop(t, kind, recovers)
			})
		}
	}
}

func queueOfACrashLoop(t *testing.T, kind string, recovers bool) {
	const clients = 8
	s := unprepared(t)
	needed := filepath.Join(s.Dir, "needed")
	if err := os.WriteFile(needed, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	after := 3 * time.Second
	if recovers {
		after = 30 * time.Second
	}
	s.Config.Set("worker.kind", kind).Set("worker.command", []string{programs.Hostile, "needs", s.Addr, needed}).
		Set("unavailable.after", after.String()).Set("rollout.bake", "0s").Set("restart.max", "200ms").Set("restart.loop_window", "1s")
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(needed); err != nil {
		t.Fatal(err)
	}
	pid, err := s.Worker(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	killed := time.Now()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	wait(t, s, "nobody to serve", func(st api.Status) bool { return len(team(st)) == 0 || team(st)[0].PID != pid })

	var waiting []net.Conn
	for range clients {
		c, err := net.DialTimeout("tcp", s.Addr, 10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		waiting = append(waiting, c)
	}
	s.Config.Set("worker.command", []string{programs.Hostile, "serves", s.Addr})
	next(t, s, 2, "serving")
	if recovers {
		if err := os.WriteFile(needed, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	from(t, s, label(2), 20)
	for _, c := range waiting {
		if err := c.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(c)
		took := time.Since(killed)
		head, body, _ := strings.Cut(string(got), "\r\n\r\n")
		switch {
		case err != nil:
			t.Errorf("a client that waited: %v", err)
		case recovers && !strings.HasPrefix(body, "v1 "):
			t.Errorf("a client that waited got %q after %s", got, took)
		case !recovers && (!strings.HasPrefix(head, "HTTP/1.1 503 ") || took < after):
			t.Errorf("a client that waited got %q after %s, and clients may wait for %s", got, took, after)
		}
	}
	wait(t, s, "the old version to be gone", func(st api.Status) bool { return len(st.Generations) == 1 })
}
