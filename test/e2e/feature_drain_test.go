package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/test/service"
)

func TestSlowRequestsOutliveReloads(t *testing.T) {
	t.Parallel()
	s := started(t, nil)
	baked(t, s)
	underLoad(t, s, quietRate(), func() {
		var all []*answer
		for i := 2; i <= 4; i++ {
			all = append(all, slowly(t, s, 3*time.Second))
			next(t, s, i, "baked")
		}
		for _, a := range all {
			a.good(t)
		}
	})
	wait(t, s, "the old generations to leave", func(st api.Status) bool { return len(st.Generations) == 1 })
}

func TestStreamsEndPolitely(t *testing.T) {
	t.Parallel()
	s := started(t, func(c service.Config) { c.Set("rollout.bake", "1s") })
	baked(t, s)
	// Server-Sent Events.
	conn, err := net.Dial("tcp", s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "GET /stream?every=20ms HTTP/1.1\r\nHost: x\r\n\r\n")
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	// WebSocket.
	ws, _, err := websocket.Dial(t.Context(), "ws://"+s.Addr+"/ws", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ws.CloseNow()
	echo := func() {
		t.Helper()
		if err := ws.Write(t.Context(), websocket.MessageText, []byte("are you there?")); err != nil {
			t.Fatal(err)
		}
		if _, msg, err := ws.Read(t.Context()); err != nil || string(msg) != "are you there?" {
			t.Fatalf("%q, %v", msg, err)
		}
	}
	echo()
	type end struct {
		at    time.Time
		lines []string
		err   error
	}
	streamed := make(chan end, 1)
	go func() {
		var e end
		in := bufio.NewScanner(res.Body)
		for in.Scan() {
			if in.Text() != "" {
				e.lines = append(e.lines, in.Text())
			}
		}
		e.at, e.err = time.Now(), in.Err()
		streamed <- e
	}()
	next(t, s, 2, "serving")
	moved := time.Now()
	t.Logf("v2 serves")
	// How long it may stay is the drain's affair; how it ends is not.
	_, _, err = ws.Read(t.Context())
	if code := websocket.CloseStatus(err); code != websocket.StatusGoingAway {
		t.Errorf("the WebSocket ended with %d, %v; want 1001", code, err)
	}
	t.Logf("the WebSocket ended %s after the switch", time.Since(moved))
	select {
	case e := <-streamed:
		t.Logf("the stream ended %s after the switch, with %d lines", e.at.Sub(moved), len(e.lines))
		if n := len(e.lines); e.err != nil || n < 2 || e.lines[n-2] != "event: leaving" {
			t.Errorf("the stream ended with %q, %v", e.lines[max(0, n-4):], e.err)
		}
	case <-time.After(patience):
		t.Error("the stream does not end")
	}
}

func TestStubbornWorkerIsKilledAfterItsDrain(t *testing.T) {
	t.Parallel()
	s := started(t, func(c service.Config) {
		c.Set("drain.timeout", "1s").Set("worker.env.DEMO_IGNORE_TERM", "1")
	})
	baked(t, s)
	delete(s.Config["worker"].(map[string]any)["env"].(map[string]any), "DEMO_IGNORE_TERM")
	underLoad(t, s, quietRate(), func() {
		next(t, s, 2, "baked")
		begun := time.Now()
		wait(t, s, "the stubborn one to be gone", func(st api.Status) bool { return len(st.Generations) == 1 })
		t.Logf("gone after %s", time.Since(begun)) // 1 s, and 5 s from TERM to KILL
	})
	if got := active(t, s); got != 2 {
		t.Errorf("generation %d", got)
	}
	logged(t, s, `"how":"signal: killed"`)
}

func TestTheOldestDrainingGenerationIsCut(t *testing.T) {
	t.Parallel()
	s := started(t, func(c service.Config) { c.Set("drain.max_generations", 1) })
	baked(t, s)
	oldest := slowly(t, s, 60*time.Second)
	next(t, s, 2, "baked")
	younger := slowly(t, s, 4*time.Second)
	next(t, s, 3, "baked")
	select {
	case <-oldest.done:
		if oldest.err == nil {
			t.Errorf("answered with %d %q", oldest.code, oldest.body)
		}
	case <-time.After(patience):
		t.Error("the oldest one still drains")
	}
	younger.good(t)
}

func TestBackgroundWorkRunsInOneGeneration(t *testing.T) {
	t.Parallel()
	s := newService(t)
	jobs := filepath.Join(s.Dir, "jobs")
	s.Config.Set("worker.env.DEMO_JOB_FILE", jobs)
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	baked(t, s)
	works := func() bool {
		code, body, err := ask(s.Addr, "/job", time.Second)
		return err == nil && code == 200 && strings.Contains(body, `"active":true`)
	}
	runs := 1
	eventually(t, "the job", works)
	for i := 2; i <= times(20, 2)+1; i++ {
		next(t, s, i, "baked")
		runs++
		eventually(t, "the job", works)
	}
	s.Config.Set("rollout.bake", "1m")
	for i := range times(20, 1) {
		next(t, s, 100+i, "serving")
		eventually(t, "the job", works)
		back(t, s, "")
		runs += 2
		eventually(t, "the job to run again", works)
	}
	wait(t, s, "the others to be gone", func(st api.Status) bool { return len(st.Generations) == 1 })
	onlyOneWorks(t, jobs, runs)
}

// onlyOneWorks reads a job file: at no time do two workers work, and in all
// there were so many runs.
func onlyOneWorks(t *testing.T, file string, runs int) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	working, begun := "", 0
	for line := range strings.Lines(string(b)) {
		var at int64
		var pid, what string
		if _, err := fmt.Sscan(line, &at, &pid, &what); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		switch {
		case what == "start" && working != "":
			t.Errorf("process %s begins to work while %s does:\n%s", pid, working, b)
			return
		case what == "start":
			working = pid
			begun++
		case what == "stop" && pid == working:
			working = ""
		}
	}
	if begun != runs {
		t.Errorf("%d runs, want %d:\n%s", begun, runs, b)
	}
}
