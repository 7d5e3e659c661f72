package systemd

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/masterd/masterd/test/load"
)

// unit is masterd's unit in a box, with the demo worker behind it.
type unit struct {
	*box
	name  string // "masterd", "masterd@a"
	file  string // its configuration, in the box
	port  int
	env   map[string]string // of the worker: how it is to fail
	extra string            // more YAML
	limit string            // worker.limits, as YAML
	// command of the worker, as YAML; empty: the demo
	command string
	user    string // workers run as; empty: as the master
	// envFile is read at each start of a worker; empty: none.
	envFile string
	client  *http.Client
}

// newUnit boots a box in which masterd.service can be started: version v1 of
// the demo worker, with quick checks.
func newUnit(t *testing.T) *unit {
	t.Helper()
	b := boot(t)
	b.installMasterd()
	u := b.unit("masterd", "/etc/masterd/masterd.yaml", "demo", 8080)
	u.install("demo-v1", "demo")
	return u
}

// installMasterd does what `make install` does.
func (b *box) installMasterd() {
	b.t.Helper()
	b.install("masterd", "masterd")
	for to, files := range map[string]string{
		"/etc/systemd/system":       "../../deploy/systemd/masterd*",
		"/usr/local/share/man/man8": "../../docs/man/*.8",
		"/usr/local/share/man/man5": "../../docs/man/*.5",
	} {
		list, err := filepath.Glob(files)
		if err != nil || len(list) == 0 {
			b.t.Fatalf("%s: %v, %v", files, list, err)
		}
		for _, f := range list {
			text, err := os.ReadFile(f)
			if err != nil {
				b.t.Fatal(err)
			}
			b.write(filepath.Join(to, filepath.Base(f)), string(text))
		}
	}
	b.must("systemctl", "daemon-reload")
}

// unit lays out a service without starting it.
func (b *box) unit(name, file, service string, port int) *unit {
	u := &unit{box: b, name: name, file: file, port: port, env: map[string]string{}}
	u.client = &http.Client{
		Timeout:   30 * time.Second,
		Transport: &http.Transport{DialContext: b.dial, DisableKeepAlives: true},
	}
	u.extra = "service: " + service + "\n"
	u.configure()
	return u
}

// configure writes the configuration.
func (u *unit) configure() {
	u.t.Helper()
	env, err := json.Marshal(u.env) // which is YAML too
	if err != nil {
		u.t.Fatal(err)
	}
	files := "[]"
	if u.envFile != "" {
		files = "[" + u.envFile + "]"
	}
	u.write(u.file, fmt.Sprintf(`%slisteners:
  - {name: http, address: "tcp://127.0.0.1:%d"}
worker: {command: %s, env: %s, user: %q, env_files: %s, limits: {%s}}
health: {http: {path: /healthz}}
rollout: {bake: 200ms}
drain: {timeout: 20s}
`, u.extra, u.port, cmp.Or(u.command, "[/usr/local/bin/demo]"), env, u.user, files, u.limit))
}

// dropIn overrides directives of the unit's [Service].
func (u *unit) dropIn(directives ...string) {
	u.t.Helper()
	u.write("/etc/systemd/system/"+u.name+".service.d/test.conf", "[Service]\n"+strings.Join(directives, "\n")+"\n")
	u.must("systemctl", "daemon-reload")
}

// start starts the unit, which has to serve when systemctl returns.
func (u *unit) start() {
	u.t.Helper()
	u.must("systemctl", "start", u.name)
	if got := u.version(); got != "v1" && got != "v2" {
		u.t.Fatalf("after systemctl start %s answers: %s", u.name, got)
	}
}

// show is one property of the unit.
func (u *unit) show(property string) string {
	u.t.Helper()
	return strings.TrimSpace(u.must("systemctl", "show", u.name, "-P", property))
}

// wants checks properties of the unit, given as NAME=VALUE.
func (u *unit) wants(properties ...string) {
	u.t.Helper()
	for _, p := range properties {
		name, want, _ := strings.Cut(p, "=")
		if got := u.show(name); got != want {
			u.t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

// becomes waits until a property of the unit has a value.
func (u *unit) becomes(property, want string) {
	u.t.Helper()
	u.eventually(property+"="+want, func() (bool, string) {
		got := u.show(property)
		return got == want, got
	})
}

// says waits until the status line has all of these words.
func (u *unit) says(words ...string) {
	u.t.Helper()
	for _, w := range words {
		u.eventually(fmt.Sprintf("the status line to say %q", w), func() (bool, string) {
			line := u.show("StatusText")
			return strings.Contains(line, w), line
		})
	}
}

// journal is what the unit has logged; waits until it has all of these words.
func (u *unit) journal(words ...string) {
	u.t.Helper()
	for _, w := range words {
		u.eventually(fmt.Sprintf("the journal to say %q", w), func() (bool, string) {
			out := u.must("journalctl", "--no-pager", "-o", "cat", "-u", u.name)
			return strings.Contains(out, w), out
		})
	}
}

// answer is what one request got.
type answer struct {
	status  int
	version string
	body    string
	err     error
}

func (u *unit) get(path string) (a answer) {
	r, err := u.client.Get(fmt.Sprintf("http://127.0.0.1:%d%s", u.port, path))
	if err != nil {
		return answer{err: err}
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	return answer{r.StatusCode, r.Header.Get("X-Worker-Version"), string(b), err}
}

// version is that of the worker that answers, or what went wrong.
func (u *unit) version() string {
	switch a := u.get("/ping"); {
	case a.err != nil:
		return a.err.Error()
	case a.status != http.StatusOK:
		return fmt.Sprintf("status %d: %s", a.status, a.body)
	default:
		return a.version
	}
}

// serves waits until a version answers.
func (u *unit) serves(version string) {
	u.t.Helper()
	u.eventually(version+" to answer", func() (bool, string) {
		got := u.version()
		return got == version, got
	})
}

// here are the unit's processes.
func (u *unit) here() []process { return u.processes(filepath.Join(u.slice(), u.name+".service")) }

// slice is that of the unit.
func (u *unit) slice() string {
	slice := "system.slice"
	if template, _, ok := strings.Cut(u.name, "@"); ok {
		slice += "/system-" + template + ".slice"
	}
	return slice
}

// master is the main process, workers are all others.
func (u *unit) master() (m process, workers []process) {
	u.t.Helper()
	main, err := strconv.Atoi(u.show("MainPID"))
	if err != nil || main == 0 {
		u.t.Fatalf("MainPID: %d, %v", main, err)
	}
	for _, p := range u.here() {
		switch {
		case p.inBox == main:
			m = p
		case p.name != "masterd-keeper":
			workers = append(workers, p)
		}
	}
	if m.pid == 0 {
		u.t.Fatalf("the main process %d is not among %+v", main, u.here())
	}
	return m, workers
}

func (p process) signal(t *testing.T, sig syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(p.pid, sig); err != nil {
		t.Fatalf("signal %v to %s (%d): %v", sig, p.name, p.pid, err)
	}
}

// file is one of a process's files in /proc.
func (p process) file(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", p.pid, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// underLoad runs story while the strict client asks, on kept and on new
// connections; none of its requests may fail.
func (u *unit) underLoad(story func()) load.Summary {
	u.t.Helper()
	u.install("strictload", "strictload")
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	// In the box's network only: as a process of this host it can be told to end.
	cmd := exec.CommandContext(ctx, "nsenter", "-t", strconv.Itoa(u.pid), "-n", "--", program(u.t, "strictload"),
		"-addr", net.JoinHostPort("127.0.0.1", strconv.Itoa(u.port)), "-rate", "200", "-kept", "8", "-new", "8",
		"-path", "/upload", "-body", "512", "-duration", "0", "-quiet", "-json")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		u.t.Fatal(err)
	}
	ended := false
	end := func() {
		if !ended {
			ended = true
			_ = cmd.Process.Signal(syscall.SIGTERM)
			_ = cmd.Wait() // what it found is in its summary
		}
	}
	defer end() // if the story gives up
	story()
	end()
	var s load.Summary
	if err := json.Unmarshal(out.Bytes(), &s); err != nil {
		u.t.Fatalf("the strict client: %v\n%s%s", err, out.String(), errs.String())
	}
	if failed := s.FailedKept + s.FailedFresh; failed > 0 || s.Requests == 0 {
		u.t.Errorf("%d of %d requests failed: %+v", failed, s.Requests, s.Failures)
	}
	return s
}

// during calls look again and again until done is closed.
func during(done <-chan struct{}, look func()) {
	for {
		select {
		case <-done:
			return
		case <-time.After(poll):
			look()
		}
	}
}

// beside starts f, and returns what is closed when it has ended.
func beside(f func()) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	return done
}
