package freeze

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/keeper"
	"github.com/masterd/masterd/pkg/master/takeover"
	"github.com/masterd/masterd/test/service"
	"github.com/masterd/masterd/test/service/servicetest"
)

const patience = 30 * time.Second

// programsDir is where the programs are. Nobody else may enter it, and that is recorded.
var programsDir string

// built are the programs, made once for all tests.
var built = sync.OnceValues(func() (service.Programs, error) {
	p, err := service.Build(context.Background(), programsDir)
	if dir := filepath.Dir(p.Masterd); err == nil && dir != programsDir { // they were built for all
		p, err = service.Built(programsDir), os.CopyFS(programsDir, os.DirFS(dir))
	}
	return p, err
})

func TestMain(m *testing.M) {
	_ = os.Unsetenv("SUDO_USER") // it is shown beside who asks
	var err error
	if programsDir, err = os.MkdirTemp("", "masterd-freeze-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(programsDir)
	os.Exit(code)
}

// product is a service of the product, and what it showed.
type product struct {
	*service.Service
	t *testing.T
}

func newProduct(t *testing.T) *product {
	t.Helper()
	programs, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return &product{servicetest.New(t, programs), t}
}

// What differs from one run to the next has a name instead.
var varies = []struct {
	what *regexp.Regexp
	by   string
}{
	{regexp.MustCompile(`\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z| \+0000 UTC)?`), "TIME"},
	{regexp.MustCompile(`\b[0-9a-f]{12,64}\b`), "HEX"},
	{regexp.MustCompile(`\b\d+(\.\d+)?(ms|s)\b`), "DURATION"},
	{regexp.MustCompile(`\bprocess \d+`), "process PID"},
	{regexp.MustCompile(`(?m)^((?:LISTEN|WATCHDOG|MASTERD_WORKER)_(?:PID|PIDFDID))=\d+$`), "$1=NUMBER"},
	{regexp.MustCompile(`(?m)^(MASTERD_CONTROL_FD=\d+):\d+$`), "$1:NUMBER"},
}

func (p *product) steady(text string) string {
	text = strings.NewReplacer(p.Dir, "DIR", p.Addr, "ADDRESS", filepath.Dir(p.Masterd), "PROGRAMS").Replace(text)
	if u, err := user.Current(); err == nil {
		text = strings.ReplaceAll(text, fmt.Sprintf("%s (uid %s)", u.Username, u.Uid), "USER")
	}
	for _, v := range varies {
		text = v.what.ReplaceAllString(text, v.by)
	}
	return text
}

func (p *product) until(what string, ok func(api.Status) bool) {
	p.t.Helper()
	if err := p.Wait(p.t.Context(), patience, what, ok); err != nil {
		p.t.Fatal(err)
	}
}

func settled(st api.Status) bool {
	return st.State == "serving" && st.Active.Baked && st.Rollout == nil && len(st.Generations) == 1
}

// written waits until so many files of the state directory have the text.
func (p *product) written(n int, files, text string) {
	p.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		paths, err := filepath.Glob(filepath.Join(p.Dir, "state", files))
		if err != nil {
			p.t.Fatal(err)
		}
		has := 0
		for _, path := range paths {
			if b, err := os.ReadFile(path); err == nil && bytes.Contains(b, []byte(`"`+text+`"`)) {
				has++
			}
		}
		if has == n {
			return
		}
		if time.Now().After(end) {
			p.t.Fatalf("%d of %s have %s, not %d", has, files, text, n)
		}
	}
}

// program is a script in the service's directory.
func (p *product) program(name, text string) string {
	p.t.Helper()
	path := filepath.Join(p.Dir, name)
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
		p.t.Fatal(err)
	}
	return path
}

func (p *product) must(args ...string) {
	p.t.Helper()
	if out, code := p.CLI(p.t.Context(), args...); code != 0 {
		p.t.Fatalf("masterd %v ended with %d: %s", args, code, out)
	}
}

// TestEachKind: what workers, hooks and checks find in their environment, what the
// keeper holds by which names, and which files there are, for each kind of worker.
func TestEachKind(t *testing.T) {
	t.Parallel()
	var environment, held, files strings.Builder
	for _, kind := range []string{"sdk", "socket-activation", "unmodified"} {
		t.Run(kind, func(t *testing.T) {
			p := newProduct(t)
			dump := func(name string) []string { return []string{"/bin/sh", "-c", "env >" + filepath.Join(p.Dir, name)} }
			p.Config.Set("worker.kind", kind)
			switch kind {
			case "sdk":
				p.Config.Set("worker.env.DEMO_PERSIST", "1").Set("worker.env.DEMO_LISTENERS", "http,unix").
					Set("listeners", []any{
						map[string]any{"name": "http", "address": "tcp://" + p.Addr},
						map[string]any{"name": "unix", "address": "unix://" + filepath.Join(p.Dir, "public")},
					}).
					Set("rollout.hooks.before", [][]string{dump("before")}).Set("rollout.hooks.after", [][]string{dump("after")}).
					Set("rollout.hooks.failed", [][]string{dump("failed")})
				delete(p.Config["health"].(map[string]any), "http")
				p.Config.Set("health.command", dump("check"))
			case "socket-activation":
				p.Config.Set("worker.command", []string{p.Hostile, "stores", p.Addr}).Set("worker.ready", "notify").
					Set("worker.fd_store", 4).Set("worker.watchdog", "1m").
					Set("drain.command", []string{"/bin/sh", "-c", "env >" + filepath.Join(p.Dir, "drain") + "; kill $MASTERD_WORKER_PID"})
			case "unmodified":
				p.Config.Set("worker.command", []string{p.Plain, p.Addr})
			}
			if err := p.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			p.until("the end of the bake", settled)
			if kind == "sdk" {
				answer, err := http.Post("http://"+p.Addr+"/list", "text/plain", strings.NewReader("kept"))
				if err != nil || answer.StatusCode != http.StatusCreated {
					t.Fatalf("%v %v", answer, err)
				}
				_ = answer.Body.Close()
				http.DefaultClient.CloseIdleConnections()
				p.must("reload", "--label", "v2", "--reason", "why", "--until", "baked")
				p.until("the end of the one before", settled)
				if out, code := p.CLI(t.Context(), "reload", "--binary", p.program("fails", "exit 1")); code != 1 {
					t.Fatalf("%d: %s", code, out)
				}
				p.must("hold", "why")
			}
			pid, err := p.Worker(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
			if err != nil {
				t.Fatal(err)
			}
			p.writeEnvironment(&environment, kind+": a worker", strings.ReplaceAll(string(env), "\x00", "\n"))
			fmt.Fprintf(&files, "== %s, while it runs\n", kind)
			p.writeFiles(&files, "run")

			last, proven := "baked", 1 // that is written; the disk comes after the answer
			if kind == "sdk" {
				last, proven = "hold", 2
			}
			p.written(1, "state.json", last)
			p.written(1, "history.jsonl", last)
			p.written(proven, "versions/*/meta.json", "proven")
			p.Kill()
			fmt.Fprintf(&held, "== %s\n", kind)
			p.writeHeld(&held)
			if err := p.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := p.Stop(); err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&files, "== %s, after a stop\n", kind)
			p.writeFiles(&files, "run")
			p.writeFiles(&files, "state")
			for _, name := range []string{"before", "after", "failed", "check", "drain"} {
				if text, err := os.ReadFile(filepath.Join(p.Dir, name)); err == nil {
					p.writeEnvironment(&environment, kind+": "+name, string(text))
				}
			}
		})
	}
	fmt.Fprintf(&environment, "== from one masterd to the next\n%s\n%s\n%s\n", takeover.StartedAsEnv, takeover.RestoredEnv, keeper.ReporterEnv)
	golden(t, "environment", environment.String())
	golden(t, "keeper", held.String())
	golden(t, "files", files.String())
}

// ours are the variables that are the product's business, by their first letters.
var ours = regexp.MustCompile(`^(MASTERD_|LISTEN_|WATCHDOG_|NOTIFY_|FDSTORE)`)

func (p *product) writeEnvironment(b *strings.Builder, what, text string) {
	lines := strings.Split(p.steady(text), "\n")
	slices.Sort(lines)
	lines = slices.DeleteFunc(lines, func(line string) bool { return !ours.MatchString(line) })
	fmt.Fprintf(b, "== %s\n%s\n", what, strings.Join(lines, "\n"))
}

// numbers of workers, slots and what else is counted, in names.
var numbers = regexp.MustCompile(`/(w?)\d+\b`)

func (p *product) name(text string) string { return numbers.ReplaceAllString(p.steady(text), "/${1}N") }

// writeHeld joins the keeper as the next master would, and leaves it as it is.
func (p *product) writeHeld(b *strings.Builder) {
	p.t.Helper()
	c, err := keeper.Join(keeper.Options{Path: filepath.Join(p.Dir, "run", "keeper.sock"), Ready: func() bool { return false }, Log: zap.NewNop()})
	if err != nil {
		p.t.Fatal(err)
	}
	held := c.Take("")
	c.Leave()
	var lines []string
	for _, h := range held {
		_ = unix.Close(h.FD)
		line := p.name(h.Name)
		if len(h.Meta) > 0 {
			line += " " + strings.Join(keys(p.t, h.Meta), ", ")
		}
		if h.Name != "blob/room" { // the demo keeps it now and then
			lines = append(lines, line)
		}
	}
	slices.Sort(lines)
	fmt.Fprintln(b, strings.Join(slices.Compact(lines), "\n"))
}

// writeFiles writes a line for each file in one of the service's directories, and what
// is in those that are JSON.
func (p *product) writeFiles(b *strings.Builder, dir string) {
	p.t.Helper()
	var entries []string
	err := filepath.WalkDir(filepath.Join(p.Dir, dir), func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		name := filepath.Base(path)
		if strings.HasSuffix(name, ".new") || strings.Contains(name, ".tmp-") { // of a master that was killed just then
			return nil
		}
		entry := fmt.Sprintf("%s %v\n", p.name(path), info.Mode())
		if name == "state.json" || name == "meta.json" || name == "history.jsonl" || strings.HasSuffix(name, ".blob") { // what live.json can hold is one of the shapes
			entry += p.content(path)
		}
		entries = append(entries, entry)
		return nil
	})
	if err != nil {
		p.t.Fatal(err)
	}
	slices.Sort(entries)
	b.WriteString(strings.Join(slices.Compact(entries), ""))
}

func (p *product) content(path string) string {
	p.t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		p.t.Fatal(err)
	}
	if strings.HasSuffix(path, ".blob") { // what was kept follows
		text, _, _ = bytes.Cut(text, []byte("\n"))
	}
	var all []string
	for dec := json.NewDecoder(bytes.NewReader(text)); dec.More(); {
		var v json.RawMessage
		if err := dec.Decode(&v); err != nil {
			p.t.Fatalf("%s: %v", path, err)
		}
		all = append(all, keys(p.t, v)...)
	}
	slices.Sort(all)
	return "    " + strings.Join(slices.Compact(all), "\n    ") + "\n"
}
