package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/test/load"
	"github.com/masterd/masterd/test/service"
)

// quietRate is the load of tests that run beside others, in requests a second. What a
// short run wants of it is that at no time nobody asks.
func quietRate() int { return times(300, 150) }

// poll is how often a fact is looked for.
const poll = 20 * time.Millisecond

// patience is the longest wait for a fact that should come soon.
const patience = 40 * time.Second

// next rolls over to the n-th version, and it must go well.
func next(t *testing.T, s *service.Service, n int, until string) {
	t.Helper()
	s.Config.Set("worker.env.RELEASE", label(n))
	if out := reload(t, s, api.ReloadRequest{Label: label(n), Until: until}); out.Result != api.ResultDone {
		t.Fatalf("reload to %s: %+v", label(n), out)
	}
}

// back rolls back, and it must go well.
func back(t *testing.T, s *service.Service, to string) {
	t.Helper()
	out, err := s.API.Rollback(t.Context(), api.RollbackRequest{Version: to}, nil)
	if err != nil || out.Result != api.ResultDone {
		t.Fatalf("rollback %s: %+v, %v", to, out, err)
	}
}

// wait waits for a fact in the status.
func wait(t *testing.T, s *service.Service, what string, ok func(api.Status) bool) {
	t.Helper()
	if err := s.Wait(t.Context(), patience, what, ok); err != nil {
		t.Fatal(err)
	}
}

// serves waits until a version has the traffic.
func serves(t *testing.T, s *service.Service, version string) {
	t.Helper()
	wait(t, s, version+" to serve", func(st api.Status) bool {
		return st.Active != nil && st.Active.Version.Label == version && st.State == "serving"
	})
}

// eventually waits for a fact that the status does not tell.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waiting for %s: not within %s", what, patience)
		}
		time.Sleep(poll)
	}
}

// logged waits until the master's log has these texts: a line is written beside what it
// tells of.
func logged(t *testing.T, s *service.Service, texts ...string) {
	t.Helper()
	for _, text := range texts {
		eventually(t, "the log to have "+text, func() bool { return strings.Contains(s.Log(10_000), text) })
	}
}

// status is what it is now.
func status(t *testing.T, s *service.Service) api.Status {
	t.Helper()
	st, err := s.API.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// team are the workers of the active generation.
func team(st api.Status) []api.Worker {
	for _, g := range st.Generations {
		if st.Active != nil && g.ID == st.Active.Generation {
			return g.Workers
		}
	}
	return nil
}

// manned: the active generation has n workers in phase active.
func manned(n int) func(api.Status) bool {
	return func(st api.Status) bool {
		workers := team(st)
		for _, w := range workers {
			if w.Phase != "active" {
				return false
			}
		}
		return len(workers) == n
	}
}

// cli runs a verb that must end with a code.
func cli(t *testing.T, s *service.Service, want int, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	out, code := s.CLI(ctx, args...)
	if code != want {
		t.Errorf("masterd %s: exit code %d, want %d:\n%s", strings.Join(args, " "), code, want, out)
	}
	return out
}

// run is a verb that runs beside the test.
type run struct {
	cmd  *exec.Cmd
	out  *strings.Builder
	done chan struct{}
}

// begin starts a verb of masterd.
func begin(t *testing.T, s *service.Service, args ...string) *run {
	t.Helper()
	r := &run{cmd: s.Command(context.Background(), args...), out: &strings.Builder{}, done: make(chan struct{})}
	r.cmd.Stdout, r.cmd.Stderr = r.out, r.out
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = r.cmd.Wait()
		close(r.done)
	}()
	t.Cleanup(func() {
		_ = r.cmd.Process.Kill()
		<-r.done
	})
	return r
}

// ended waits for the verb's end.
func (r *run) ended(t *testing.T, want int) string {
	t.Helper()
	select {
	case <-r.done:
	case <-time.After(patience):
		t.Fatalf("%v did not end", r.cmd.Args)
	}
	if code := r.cmd.ProcessState.ExitCode(); code != want {
		t.Errorf("%v: exit code %d, want %d:\n%s", r.cmd.Args[3:], code, want, r.out)
	}
	return r.out.String()
}

// stage waits until a rollout is at one.
func stage(t *testing.T, s *service.Service, name string) {
	t.Helper()
	wait(t, s, "stage "+name, func(st api.Status) bool { return st.Rollout != nil && st.Rollout.Stage == name })
}

// ask makes one request on a connection of its own.
func ask(addr, path string, timeout time.Duration) (code int, body string, err error) {
	tr := &http.Transport{DisableKeepAlives: true}
	if path := addr; strings.HasPrefix(path, "/") {
		tr.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		}
		addr = "localhost"
	}
	c := &http.Client{Transport: tr, Timeout: timeout}
	res, err := c.Get("http://" + addr + path)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return res.StatusCode, string(b), err
}

// answer is one slow request under way.
type answer struct {
	done chan struct{}
	code int
	body string
	err  error
}

// slowly makes a request that takes d, and returns once its worker has it.
func slowly(t *testing.T, s *service.Service, d time.Duration) *answer {
	t.Helper()
	conn, err := net.Dial("tcp", s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "GET /slow?d=%s HTTP/1.1\r\nHost: x\r\n\r\n", d)
	a := &answer{done: make(chan struct{})}
	go func() {
		defer close(a.done)
		defer conn.Close()
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			a.err = err
			return
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		a.code, a.body, a.err = res.StatusCode, string(b), err
	}()
	t.Cleanup(func() { _ = conn.Close(); <-a.done })
	// Who came after it was answered: it has been taken from the queue.
	if code, _, err := ask(s.Addr, "/ping", patience); err != nil || code != 200 {
		t.Fatalf("a request after the slow one: %d, %v", code, err)
	}
	return a
}

// good waits for the answer, which must be whole.
func (a *answer) good(t *testing.T) {
	t.Helper()
	select {
	case <-a.done:
	case <-time.After(patience):
		t.Fatal("no answer")
	}
	if a.err != nil || a.code != 200 {
		t.Errorf("a slow request: %d %q, %v", a.code, a.body, a.err)
	}
}

// history finds the newest entry that fits.
func history(t *testing.T, s *service.Service, ok func(api.Entry) bool) *api.Entry {
	t.Helper()
	entries, err := s.API.History(t.Context(), 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if ok(e) {
			return &e
		}
	}
	return nil
}

// copied is the demo worker as a file of the test's own.
func copied(t *testing.T, s *service.Service, name string) string {
	t.Helper()
	b, err := os.ReadFile(s.Demo)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(s.Dir, name)
	if err := os.WriteFile(path, b, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// unfailing is the strict load, which must end without a failed request.
func unfailing(t *testing.T, p load.Plan, story func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	l := load.Start(ctx, p)
	defer l.Wait()
	defer cancel()
	story()
	cancel()
	if res := l.Wait(); res.Failed() > 0 || res.Requests == 0 {
		t.Errorf("%s:\n%s", p.Addr, res)
	}
}
