package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
)

const patience = 30 * time.Second

// The test binary is the demo itself when it is told so.
func TestMain(m *testing.M) {
	if os.Getenv("DEMO_TEST_MAIN") != "" {
		main()
	}
	os.Exit(m.Run())
}

// demo is a running demo-worker.
type demo struct {
	*exec.Cmd
	t      *testing.T
	url    string
	client *http.Client
	stderr string // a file
}

func command(t *testing.T, args []string, env ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), append(env, "DEMO_TEST_MAIN=1")...)
	return cmd
}

// start runs the demo alone, until it answers.
func start(t *testing.T, env ...string) *demo {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	tr := &http.Transport{}
	d := &demo{Cmd: command(t, []string{"-addr", addr}, env...), t: t, url: "http://" + addr, client: &http.Client{Transport: tr, Timeout: patience}}
	d.stderr = filepath.Join(t.TempDir(), "stderr")
	stderr, err := os.Create(d.stderr)
	if err != nil {
		t.Fatal(err)
	}
	defer stderr.Close()
	d.Cmd.Stderr = stderr
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tr.CloseIdleConnections(); d.Process.Kill(); d.Wait() })
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
			return d
		}
		if time.Now().After(end) {
			t.Fatalf("the demo does not listen: %v\n%s", err, d.said())
		}
	}
}

// said is the demo's standard error until now.
func (d *demo) said() string {
	b, err := os.ReadFile(d.stderr)
	if err != nil {
		d.t.Fatal(err)
	}
	return string(b)
}

// do makes a request; the status and the body come back.
func (d *demo) do(method, path, body string) (int, string) {
	d.t.Helper()
	req, err := http.NewRequest(method, d.url+path, strings.NewReader(body))
	if err != nil {
		d.t.Fatal(err)
	}
	resp, err := d.client.Do(req)
	if err != nil {
		d.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	if resp.Header.Get("X-Worker-Version") == "" || resp.Header.Get("X-Worker-Pid") != strconv.Itoa(d.Process.Pid) {
		d.t.Errorf("%s %s: headers %v", method, path, resp.Header)
	}
	return resp.StatusCode, string(b)
}

func (d *demo) want(method, path, body string, status int, answer string) {
	d.t.Helper()
	code, got := d.do(method, path, body)
	if code != status || !strings.Contains(got, answer) {
		d.t.Errorf("%s %s: %d %q; wanted %d %q", method, path, code, got, status, answer)
	}
}

// terminate sends TERM and wants exit code 0.
func (d *demo) terminate() {
	d.t.Helper()
	d.client.CloseIdleConnections()
	d.Process.Signal(syscall.SIGTERM)
	d.exits()
}

// exits waits for exit code 0.
func (d *demo) exits() {
	d.t.Helper()
	d.client.CloseIdleConnections()
	d.Wait()
	if code := d.ProcessState.ExitCode(); code != 0 {
		d.t.Errorf("the demo ended with %v\n%s", d.ProcessState, d.said())
	}
}

func TestRoutes(t *testing.T) {
	file := filepath.Join(t.TempDir(), "job")
	d := start(t, "DEMO_JOB_FILE="+file)
	d.want("GET", "/ping", "", 200, "pong")
	d.want("GET", "/healthz", "", 200, "ok")
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) { // it listens a little before it is ready
		if code, _ := d.do("GET", "/readyz", ""); code != 503 || time.Now().After(end) {
			break
		}
	}
	d.want("GET", "/readyz", "", 200, "ready")
	d.want("GET", "/slow?d=1ms", "", 200, "1ms")
	d.want("GET", "/slow?d=forever", "", 400, "duration")
	d.want("GET", "/stream?every=0", "", 400, "duration")
	d.want("POST", "/crash", "", 403, "DEMO_CRASH")
	d.want("POST", "/list", "an item", 201, `"items":1`)
	d.want("GET", "/list", "", 200, `["an item"]`)
	d.want("POST", "/list", strings.Repeat("x", maxItem+1), 413, "bytes")
	d.want("GET", "/nowhere", "", 404, "")

	body := strings.Repeat("0123456789", 50_000)
	sum := sha256.Sum256([]byte(body))
	d.want("POST", "/upload", body, 200, fmt.Sprintf(`{"sha256":"%s","size":500000}`, hex.EncodeToString(sum[:])))

	var v struct {
		Version, State string
		PID            int
		Job            jobStatus
	}
	for end := time.Now().Add(patience); v.Job.Ticks == 0 && time.Now().Before(end); {
		_, text := d.do("GET", "/version", "")
		if err := json.Unmarshal([]byte(text), &v); err != nil {
			t.Fatal(err)
		}
	}
	if v.Version == "" || v.State != "active" || v.PID != d.Process.Pid || !v.Job.Active || v.Job.Runs != 1 || v.Job.Ticks == 0 {
		t.Errorf("/version says %+v", v)
	}
	d.terminate()
	notes, err := os.ReadFile(file)
	if err != nil || !strings.Contains(string(notes), "start\n") || !strings.HasSuffix(string(notes), "stop\n") {
		t.Errorf("the job's file: %q, %v", notes, err)
	}
}

func TestStreamLeaves(t *testing.T) {
	d := start(t)
	resp, err := d.client.Get(d.url + "/stream?every=1ms")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() && lines.Text() != "data: tick 3" {
	}
	d.Process.Signal(syscall.SIGTERM)
	left := false
	for lines.Scan() {
		left = left || lines.Text() == "event: leaving"
	}
	if !left || lines.Err() != nil {
		t.Errorf("the stream ended without goodbye: %v", lines.Err())
	}
	d.exits()
}

func TestWebSocket(t *testing.T) {
	d := start(t)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, d.url+"/ws", &websocket.DialOptions{HTTPClient: d.client})
	if err != nil {
		t.Fatal(err)
	}
	defer ws.CloseNow()
	for _, text := range []string{"one", "two"} {
		if err := ws.Write(ctx, websocket.MessageText, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if _, got, err := ws.Read(ctx); err != nil || string(got) != text {
			t.Fatalf("%q came back as %q, %v", text, got, err)
		}
	}
	d.Process.Signal(syscall.SIGTERM)
	if _, _, err := ws.Read(ctx); websocket.CloseStatus(err) != websocket.StatusGoingAway {
		t.Errorf("the worker left with %v", err)
	}
	d.exits()
}

func TestEndsAtStart(t *testing.T) {
	for _, c := range []struct {
		args []string
		env  string
		code int
		says string
	}{
		{nil, "DEMO_EXIT=7", 7, "told by DEMO_EXIT"},
		{nil, "DEMO_EXIT=no", 2, `DEMO_EXIT="no"`},
		{nil, "DEMO_CRASH_AFTER=5", 2, "duration"},
		{nil, "DEMO_FAIL=sometimes", 2, "users"},
		{nil, "DEMO_FAIL_PERCENT=101", 2, "more than 100"},
		{nil, "DEMO_UNHEALTHY_ONE=/nowhere/at/all", 2, "DEMO_UNHEALTHY_ONE"},
		{nil, "DEMO_ADDR=no address", 1, "listener"},
		{[]string{"what"}, "A=b", 2, "what"},
		{[]string{"-what"}, "A=b", 2, "what"},
		{[]string{"-h"}, "A=b", 0, "DEMO_LOG_FLOOD"},
	} {
		out, _ := command(t, c.args, c.env).CombinedOutput()
		cmd := command(t, c.args, c.env)
		cmd.Run()
		if code := cmd.ProcessState.ExitCode(); code != c.code || !strings.Contains(string(out), c.says) {
			t.Errorf("%s %v: code %d, %q; wanted %d, %q", c.env, c.args, code, out, c.code, c.says)
		}
	}
}

func TestFaults(t *testing.T) {
	t.Run("unhealthy", func(t *testing.T) {
		d := start(t, "DEMO_UNHEALTHY=1")
		d.want("GET", "/healthz", "", 500, "")
		d.want("GET", "/ping", "", 200, "pong")
	})
	t.Run("unhealthy later", func(t *testing.T) {
		d := start(t, "DEMO_UNHEALTHY_AFTER=300ms")
		for end := time.Now().Add(patience); ; {
			if code, _ := d.do("GET", "/healthz", ""); code == 500 {
				break
			}
			if time.Now().After(end) {
				t.Fatal("healthy for ever")
			}
		}
	})
	t.Run("one of several", func(t *testing.T) {
		claim := "DEMO_UNHEALTHY_ONE=" + filepath.Join(t.TempDir(), "claim")
		start(t, claim).want("GET", "/healthz", "", 500, "")
		start(t, claim).want("GET", "/healthz", "", 200, "")
	})
	t.Run("everything fails", func(t *testing.T) {
		d := start(t, "DEMO_FAIL=all")
		d.want("GET", "/ping", "", 500, "")
		d.want("GET", "/healthz", "", 500, "")
	})
	t.Run("users fail", func(t *testing.T) {
		d := start(t, "DEMO_FAIL=users")
		d.want("GET", "/ping", "", 500, "")
		d.want("GET", "/healthz", "", 200, "")
	})
	t.Run("some fail", func(t *testing.T) {
		d := start(t, "DEMO_FAIL_PERCENT=50", "DEMO_SLOW=10ms")
		seen := map[int]bool{}
		for begun := time.Now(); !seen[200] || !seen[500]; {
			asked := time.Now()
			status, _ := d.do("GET", "/ping", "")
			seen[status] = true
			if took := time.Since(asked); took < 10*time.Millisecond {
				t.Errorf("an answer after %v", took)
			}
			if time.Since(begun) > patience {
				t.Fatalf("only %v", seen)
			}
		}
		for range 20 {
			d.want("GET", "/healthz", "", 200, "")
		}
	})
	t.Run("counts and leaks", func(t *testing.T) {
		d := start(t, "DEMO_COUNT_PERCENT=100", "DEMO_LEAK_FILES=3")
		files := func() (leaked int) {
			dir := fmt.Sprintf("/proc/%d/fd", d.Process.Pid)
			list, err := os.ReadDir(dir)
			if err != nil {
				t.Skip(err)
			}
			for _, f := range list { // others come and go
				if to, err := os.Readlink(filepath.Join(dir, f.Name())); err == nil && to == os.DevNull {
					leaked++
				}
			}
			return leaked
		}
		d.want("GET", "/ping", "", 200, "pong")
		before := files()
		for range 30 {
			d.want("GET", "/ping", "", 200, "pong")
		}
		if now := files(); now != before+10 {
			t.Errorf("%d files are open, and %d were before 30 answers", now, before)
		}
	})
	t.Run("crash", func(t *testing.T) {
		d := start(t, "DEMO_CRASH=1")
		d.client.Post(d.url+"/crash", "", nil)
		if d.Wait(); d.ProcessState.ExitCode() != 3 {
			t.Errorf("ended with %v", d.ProcessState)
		}
	})
	t.Run("crash later", func(t *testing.T) {
		d := start(t, "DEMO_CRASH_AFTER=200ms")
		if d.Wait(); d.ProcessState.ExitCode() != 3 {
			t.Errorf("ended with %v", d.ProcessState)
		}
	})
	t.Run("leaks and floods", func(t *testing.T) {
		d := start(t, "DEMO_LEAK_MEMORY=2", "DEMO_LOG_FLOOD=100")
		for end := time.Now().Add(patience); !strings.Contains(d.said(), "line 100 of a flood, with 2 MiB leaked"); {
			if time.Now().After(end) {
				t.Fatalf("standard error: %.500s", d.said())
			}
			time.Sleep(time.Millisecond)
		}
		d.terminate()
	})
	t.Run("ignores TERM", func(t *testing.T) {
		d := start(t, "DEMO_IGNORE_TERM=1")
		d.Process.Signal(syscall.SIGTERM)
		d.want("GET", "/ping", "", 200, "pong")
		d.Process.Kill()
	})
}

// The switches that -h prints are those that are read.
func TestFaultTable(t *testing.T) {
	var read, told []string
	if _, err := readFaults(func(key string) string {
		if strings.HasPrefix(key, "DEMO_") {
			read = append(read, key)
		}
		return ""
	}); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(faultTable()) {
		name, _, _ := strings.Cut(strings.TrimSpace(line), "=")
		told = append(told, name)
	}
	slices.Sort(read)
	slices.Sort(told)
	if told = slices.Compact(told); !slices.Equal(read, told) {
		t.Errorf("read are\n%v\nand -h prints\n%v", read, told)
	}
}
