package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/admin"
	"github.com/masterd/masterd/pkg/master/admin/admintest"
)

// rewrite writes golden files anew: go test ./cmd/masterd -update.
var rewrite = flag.Bool("update", false, "write golden files and docs/man/masterd.8 anew")

// asMasterd has this test program be masterd itself, for what can only be seen
// from outside: pipes, other users.
const asMasterd = "MASTERD_TEST_AS_MASTERD"

func TestMain(m *testing.M) {
	// A test that started a worker would otherwise start all tests again, without end.
	becomeOther()
	if len(os.Args) == 2 && os.Args[1] == "version" {
		return // as check runs masterd, to try whether its calls can be answered
	}
	if dir, ok := os.LookupEnv(asMasterd); ok {
		a := newApp()
		a.systemDir, a.defaultFile = dir, filepath.Join(dir, "none.yaml")
		os.Exit(a.execute(context.Background(), os.Args[1:]))
	}
	os.Exit(m.Run())
}

// cli is the command line with a place to run in.
type cli struct {
	t   *testing.T
	dir string // of services' runtime directories
	env map[string]string
	uid int
	tty [2]int // width and height of a terminal; zero: none
	ctx context.Context

	answers []string // what somebody on a terminal types; nil: nobody is there

	start  func(daemonOptions) (daemon, error)
	browse func(url string) error // nil: nothing may be opened
	// keys are those of a keyboard; nil: there is none.
	keys func(context.Context) (<-chan key, <-chan os.Signal, func())
	now  func() time.Time // nil: noon
	out  writer           // instead of a buffer; for those that are read while they grow
}

type writer interface {
	Write([]byte) (int, error)
	String() string
}

func newCLI(t *testing.T) *cli {
	t.Helper()
	dir, err := os.MkdirTemp("", "cli") // t.TempDir's paths are too long for sockets
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return &cli{t: t, dir: dir, env: map[string]string{"TMPDIR": dir}, ctx: t.Context()}
}

// noon is when all tests of the command line take place.
func noon() time.Time { return time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC) }

// run runs one command line and returns the exit code and what it printed.
func (c *cli) run(args ...string) (code int, out, errs string) {
	c.t.Helper()
	a, stderr := newApp(), &bytes.Buffer{}
	if c.out == nil {
		c.out = &bytes.Buffer{}
		defer func() { c.out = nil }()
	}
	a.out, a.err, a.uid, a.start, a.browse = c.out, stderr, c.uid, c.start, c.browse
	a.systemDir, a.defaultFile = c.dir, filepath.Join(c.dir, "masterd.yaml")
	a.env = func(name string) string { return c.env[name] }
	a.environ = func() []string { return []string{"PATH=" + os.Getenv("PATH"), "HOME=" + c.dir} }
	a.in, a.interactive = strings.NewReader(strings.Join(append(c.answers, ""), "\n")), func() bool { return c.answers != nil }
	a.now = noon
	if c.now != nil {
		a.now = c.now
	}
	a.keys = func(context.Context) (<-chan key, <-chan os.Signal, func()) { return nil, nil, func() {} }
	if c.keys != nil {
		a.keys = c.keys
	}
	a.terminal = func() (int, int, bool) { return c.tty[0], c.tty[1], c.tty[0] > 0 }
	code = a.execute(c.ctx, args)
	return code, c.out.String(), stderr.String()
}

// service runs a fake master of the named service until the test ends.
func (c *cli) service(name string, b *admintest.Backend, change ...func(*admin.Options)) *admin.Server {
	c.t.Helper()
	dir := filepath.Join(c.dir, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		c.t.Fatal(err)
	}
	o := admin.Options{Path: filepath.Join(dir, adminSocket), Backend: b, Log: zap.NewNop(), Service: name, MasterUID: os.Getuid()}
	for _, f := range change {
		f(&o)
	}
	s, err := admin.Listen(o)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		s.Close(ctx)
	})
	return s
}

// want runs a command line that has to print exactly this.
func (c *cli) want(code int, out, errs string, args ...string) {
	c.t.Helper()
	gotCode, gotOut, gotErrs := c.run(args...)
	errs = strings.ReplaceAll(errs, "$DIR", c.dir)
	out = strings.ReplaceAll(out, "$DIR", c.dir)
	if gotCode != code || gotOut != out || gotErrs != errs {
		c.t.Errorf("masterd %s\nexit %d, want %d\n--- out\n%s--- want\n%s--- err\n%s--- want\n%s", strings.Join(args, " "), gotCode, code, gotOut, out, gotErrs, errs)
	}
}

// golden compares with a file in testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *rewrite {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; go test -update writes it", err)
	}
	if got != string(want) {
		t.Errorf("%s has changed; if that is well, go test -update\n--- got\n%s--- want\n%s", path, got, want)
	}
}

// growing is output that is read while it is written.
type growing struct {
	mu sync.Mutex
	b  bytes.Buffer
	c  chan struct{} // holds a value when there is something new
}

func newGrowing() *growing { return &growing{c: make(chan struct{}, 1)} }

func (g *growing) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case g.c <- struct{}{}:
	default:
	}
	return g.b.Write(p)
}

func (g *growing) String() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.b.String()
}

// await returns once text was written so many times. It may be called in any
// goroutine.
func (g *growing) await(t *testing.T, text string, times int) {
	t.Helper()
	patience := time.After(20 * time.Second)
	for strings.Count(g.String(), text) < times {
		select {
		case <-g.c:
		case <-patience:
			t.Errorf("%q never came %d times; there is %q", text, times, g.String())
			return
		}
	}
}

// scripted answers each change with these events.
func scripted(events ...api.Event) *admintest.Backend {
	return &admintest.Backend{Change: func(admintest.Call) (<-chan api.Event, error) { return admintest.Events(events...), nil }}
}

func staged(after time.Duration, stage string, generation uint64, version, detail string, atMost time.Duration) api.Event {
	s := &api.Stage{At: noon().Add(after), Generation: generation, Version: version, Stage: stage, Detail: detail}
	if atMost > 0 {
		s.Deadline = s.At.Add(atMost)
	}
	return api.Event{Stage: s}
}

func ended(o api.Outcome) api.Event { return api.Event{Outcome: &o} }

func refusing(p *api.Problem) *admintest.Backend {
	return &admintest.Backend{Change: func(admintest.Call) (<-chan api.Event, error) { return nil, p }}
}

func lines(l ...string) string { return fmt.Sprintln(strings.Join(l, "\n")) }
