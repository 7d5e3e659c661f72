// Command tour plays masterd's story in a terminal: a version is served under
// load, a better one follows, three bad ones are refused, one step leads back.
// The client never retries; the numbers at the end were measured in this run.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/term"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/test/load"
	"github.com/masterd/masterd/test/service"
)

const (
	rate  = 1000 // requests a second, half on kept and half on new connections
	kept  = 8
	fresh = 8
	body  = 256                    // bytes of each POST
	pause = 700 * time.Millisecond // so that a person can follow, and load is there before and after each step
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := tour(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "tour:", err)
		os.Exit(1)
	}
}

// step is one step of the story.
type step struct {
	title  string
	label  string
	env    map[string]string // what makes the version what it is
	verb   []string
	code   int    // the exit code it must have
	serves string // the version that must answer afterwards
}

func story() []step {
	reload := func(label string) []string { return []string{"reload", "--label", label} }
	return []step{
		{title: "A new version, v2", label: "v2", verb: reload("v2"), serves: "v2"},
		{title: "A v3 that crashes at its start", label: "v3", env: map[string]string{"DEMO_EXIT": "3", "DEMO_EXIT_MESSAGE": "panic: no such table: orders"}, verb: reload("v3"), code: 1, serves: "v2"},
		{title: "A v3 that hangs before it is ready", label: "v3", env: map[string]string{"DEMO_HANG": "1"}, verb: reload("v3"), code: 1, serves: "v2"},
		{title: "A v3 that answers 500 to everything", label: "v3", env: map[string]string{"DEMO_FAIL": "all"}, verb: reload("v3"), code: 1, serves: "v2"},
		{title: "Back to v1, in one step", verb: []string{"rollback", "--reason", "the tour goes back"}, serves: "v1"},
	}
}

func tour(ctx context.Context) (err error) {
	t := newPage(os.Stdout)
	dir, err := os.MkdirTemp("", "masterd-tour-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	t.say("Building masterd and the demo worker ...")
	programs, err := service.Build(ctx, dir)
	if err != nil {
		return err
	}
	s, err := service.New(programs, dir)
	if err != nil {
		return err
	}
	s.Config.Set("rollout.bake", "1m").Set("health.start.timeout", "2s").Set("worker.env.RELEASE", "v1")
	defer func() { err = errors.Join(err, s.Stop()) }()

	t.title("Serving v1 on %s", s.Addr)
	if err := s.Start(ctx); err != nil {
		return err
	}
	// The first generation is named by its program; the story calls it v1.
	if _, err := s.API.Reload(ctx, api.ReloadRequest{Label: "v1"}, nil); err != nil {
		return err
	}
	if _, err := s.API.Promote(ctx, api.PromoteRequest{Reason: "the tour begins with it"}, nil); err != nil {
		return err
	}
	t.say("A strict client begins: %d requests/s, POST, half on kept and half on new connections, never a retry.", rate)
	loadCtx, endLoad := context.WithCancel(ctx)
	defer endLoad()
	l := load.Start(loadCtx, load.Plan{Addr: s.Addr, Rate: rate, Kept: kept, Fresh: fresh, Path: "/upload", Body: body})
	defer func() { endLoad(); l.Wait() }()
	if err := wait(ctx, pause); err != nil {
		return err
	}

	var took []time.Duration
	for _, st := range story() {
		t.title("%s", st.title)
		if st.label != "" {
			env := map[string]any{"RELEASE": st.label}
			for k, v := range st.env {
				env[k] = v
			}
			s.Config.Set("worker.env", env)
			if err := s.Write(); err != nil {
				return err
			}
		}
		t.command("masterd " + typed(st.verb))
		begun := time.Now()
		out, code := s.CLI(ctx, st.verb...)
		took = append(took, time.Since(begun))
		t.output(out)
		if code != st.code {
			return fmt.Errorf("%q ended with exit code %d, want %d", strings.Join(st.verb, " "), code, st.code)
		}
		if err := wait(ctx, pause); err != nil {
			return err
		}
		if err := answers(s, st.serves); err != nil {
			return err
		}
		r := l.Snapshot()
		t.say("exit code %d after %s; %s answers; %d requests so far, %d failed", code, took[len(took)-1].Round(time.Millisecond), st.serves, r.Requests, r.Failed())
	}

	t.title("Where things are")
	t.command("masterd status")
	out, _ := s.CLI(ctx, "status")
	t.output(out)

	endLoad()
	r := l.Wait()
	t.title("Measured in this run")
	t.say("%s", r)
	if n := r.Failed(); n > 0 {
		return fmt.Errorf("%d requests failed", n)
	}
	return nil
}

// typed is a command line as a person types it.
func typed(args []string) string {
	var words []string
	for _, a := range args {
		if strings.Contains(a, " ") {
			a = strconv.Quote(a)
		}
		words = append(words, a)
	}
	return strings.Join(words, " ")
}

// answers makes sure which version answers now.
func answers(s *service.Service, version string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	r := load.Start(ctx, load.Plan{Addr: s.Addr, Fresh: 1, Rate: 50, Path: "/ping"}).Wait()
	if _, ok := r.Versions[version]; !ok || len(r.Versions) != 1 {
		return fmt.Errorf("%s was to answer now, it was %v", version, r.Versions)
	}
	return nil
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return errors.New("interrupted")
	}
}

// indent sets apart what masterd prints.
const indent = "  "

// page writes for people.
type page struct {
	out         *os.File
	bold, reset string
}

func newPage(out *os.File) page {
	// masterd's own pages are shown indented.
	if width, _, err := term.GetSize(int(out.Fd())); err == nil {
		os.Setenv("COLUMNS", strconv.Itoa(max(width-len(indent), 1)))
	}
	if term.IsTerminal(int(out.Fd())) && os.Getenv("NO_COLOR") == "" {
		return page{out, "\x1b[1m", "\x1b[0m"}
	}
	return page{out: out}
}

func (p page) title(format string, args ...any) {
	fmt.Fprintf(p.out, "\n%s== %s%s\n", p.bold, fmt.Sprintf(format, args...), p.reset)
}

func (p page) say(format string, args ...any) { fmt.Fprintf(p.out, format+"\n", args...) }
func (p page) command(c string)               { fmt.Fprintf(p.out, "%s$ %s%s\n", p.bold, c, p.reset) }

func (p page) output(out string) {
	for _, line := range strings.Split(strings.TrimRight(out, "\n"), "\n") {
		fmt.Fprintln(p.out, indent+line)
	}
}
