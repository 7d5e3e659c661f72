package systemd

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

var must = flag.Bool("systemd.must", false, "fail where a systemd of our own cannot be had, instead of skipping")

func TestMain(m *testing.M) {
	if cgroup := os.Getenv(stageEnv); cgroup != "" {
		// This process is the first one of a box.
		fmt.Fprintln(os.Stderr, "the box cannot be set up:", stage(cgroup))
		os.Exit(1)
	}
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "masterd-systemd-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	built.dir = dir
	sweepCgroups()
	return m.Run()
}

// built are the programs that go into boxes; made once, by the first test that
// has a box to put them into.
var built struct {
	dir  string
	once sync.Once
	err  error
}

// program returns the path of a built program: masterd, strictload, demo-v1 or
// demo-v2.
func program(t *testing.T, name string) string {
	t.Helper()
	built.once.Do(func() { built.err = build(built.dir) })
	if built.err != nil {
		t.Fatal(built.err)
	}
	return filepath.Join(built.dir, name)
}

func build(dir string) error {
	const module = "github.com/masterd/masterd"
	for _, b := range []struct{ name, pkg, version string }{
		{"masterd", "/cmd/masterd", "test"},
		{"strictload", "/test/load/cmd/strictload", ""},
		{"demo-v1", "/cmd/demo-worker", "v1"},
		{"demo-v2", "/cmd/demo-worker", "v2"},
	} {
		// Static: what is below /lib in the box is the host's own, but who knows
		// what else the host's linker would want.
		cmd := exec.Command("go", "build", "-buildvcs=false", "-trimpath", "-ldflags", "-s -w -X main.version="+b.version,
			"-o", filepath.Join(dir, b.name), module+b.pkg)
		cmd.Env = append(cmd.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("building %s: %w\n%s", b.name, err, out)
		}
	}
	return nil
}
