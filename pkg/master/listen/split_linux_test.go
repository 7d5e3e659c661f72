package listen

import (
	"strings"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/master/config"
)

// Who cannot split says so, and why.
func TestCanSplit(t *testing.T) {
	one := tcp("http", "127.0.0.1")
	one.Steering = "shared"
	unable := host()
	unable.attach = func(int, []bpf.Instruction) error { return unix.EOPNOTSUPP }
	for name, c := range map[string]struct {
		conf config.Listener
		sys  system
		why  string // empty: it can
	}{
		"kernel":            {tcp("http", "127.0.0.1"), host(), ""},
		"Unix socket":       {onPath("http", t.TempDir()+"/s"), host(), "Unix socket"},
		"shared":            {one, host(), "all workers accept from one socket (asked for in the configuration)"},
		"cannot be steered": {tcp("http", "127.0.0.1"), unable, "(the kernel cannot steer here: operation not supported)"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorldOn(t, c.sys, c.conf)
			asked := []config.Listener{tcp("new", "127.0.0.2"), c.conf}
			err := w.CanSplit(asked)
			switch {
			case c.why == "" && err != nil:
				t.Error(err)
			case c.why != "":
				e := asListenError(t, err)
				if e.Listener != "http" || e.Address == "" || !strings.Contains(e.Error(), c.why) {
					t.Errorf("%v, want %q", e, c.why)
				}
			}
		})
	}
}
