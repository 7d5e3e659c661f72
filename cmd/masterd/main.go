// Command masterd keeps a service running: it owns the service's listening
// sockets, runs its workers, and brings in a new version beside the old one
// without losing a request.
//
// Bare masterd is the daemon, in the foreground; every other verb talks to a
// running one. Environment and signals are read in this package and nowhere
// else. There is one short file for each verb, or for those that are alike.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/term"

	"github.com/masterd/masterd/pkg/master/trust"
)

func main() {
	becomeOther() // nothing may come before this
	os.Exit(newApp().execute(context.Background(), os.Args[1:]))
}

// app is the command line with all that it takes from its surroundings, so
// that tests can give it others.
type app struct {
	in          io.Reader
	out, err    io.Writer
	env         func(string) string
	environ     func() []string
	uid         int // effective
	now         func() time.Time
	terminal    func() (width, height int, ok bool) // of out; not ok: it is none
	interactive func() bool                         // somebody is there who can be asked
	interrupt   func(context.Context) (context.Context, context.CancelFunc)
	start       func(daemonOptions) (daemon, error)
	browse      func(url string) error
	keys        func(context.Context) (keys <-chan key, resized <-chan os.Signal, restore func()) // of the terminal

	trusted     trust.Owners // who is believed besides root and uid
	systemDir   string       // where services of root have their runtime directories
	defaultFile string       // the configuration when none is named

	// Flags that all verbs share.
	config  string
	service string
}

func newApp() *app {
	return &app{
		in: os.Stdin, out: os.Stdout, err: os.Stderr,
		env: os.Getenv, environ: os.Environ, uid: os.Geteuid(),
		now: time.Now,
		terminal: func() (int, int, bool) {
			width, height, err := term.GetSize(int(os.Stdout.Fd()))
			return width, height, err == nil
		},
		interactive: func() bool { return term.IsTerminal(int(os.Stdin.Fd())) && term.IsTerminal(int(os.Stderr.Fd())) },
		// An operator who goes away changes nothing: the master is not told.
		interrupt: func(ctx context.Context) (context.Context, context.CancelFunc) {
			return signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
		},
		start:       startMaster,
		browse:      browse,
		keys:        terminalKeys,
		trusted:     trust.Own(),
		systemDir:   "/run/masterd",
		defaultFile: "/etc/masterd/masterd.yaml",
	}
}

// colour: only on a terminal that has some, and only if nobody minds.
func (a *app) colour() bool {
	_, _, ok := a.terminal()
	return ok && a.env("NO_COLOR") == "" && a.env("TERM") != "dumb"
}

// pageWidth is how wide output may be: the terminal, or what COLUMNS says when
// there is none, at most maxColumns; pageColumns if nobody says.
func (a *app) pageWidth() int {
	if _, _, ok := a.terminal(); !ok && a.env("COLUMNS") == "" {
		return pageColumns
	}
	return a.widthUpTo(maxColumns)
}

// widthUpTo is the same with another limit.
func (a *app) widthUpTo(most int) int {
	if width, _, ok := a.terminal(); ok && width > 0 {
		return min(width, most)
	}
	if n, err := strconv.Atoi(a.env("COLUMNS")); err == nil && n > 0 {
		return min(n, most)
	}
	return most
}

// environWithout is the environment without the named variables.
func environWithout(environ []string, names ...string) []string {
	return slices.DeleteFunc(slices.Clone(environ), func(kv string) bool {
		name, _, named := strings.Cut(kv, "=")
		return named && slices.Contains(names, name)
	})
}
