package systemd

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/masterd/masterd/test/service"
)

var must = flag.Bool("systemd.must", false, "fail where a systemd of our own cannot be had, instead of skipping")

func TestMain(m *testing.M) {
	if cgroup := os.Getenv(stageEnv); cgroup != "" {
		// This process is the first one of a box.
		fmt.Fprintln(os.Stderr, "the box cannot be set up:", stage(cgroup, os.Getenv(stageV1Env)))
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
	service.Programs
	dir  string // of those that no other package's tests run
	once sync.Once
	err  error
}

// programs are those that other packages' tests run, too.
func programs(t *testing.T) service.Programs {
	t.Helper()
	built.once.Do(func() { built.err = build(built.dir) })
	if built.err != nil {
		t.Fatal(built.err)
	}
	return built.Programs
}

// program returns the path of a built program: masterd, strictload, demo-v1 or
// demo-v2.
func program(t *testing.T, name string) string {
	t.Helper()
	if p := programs(t); name == "masterd" {
		return p.Masterd
	}
	return filepath.Join(built.dir, name)
}

func build(dir string) (err error) {
	if built.Programs, err = service.Build(context.Background(), dir); err != nil {
		return err
	}
	const module = "github.com/masterd/masterd"
	for _, b := range []struct{ name, pkg, version string }{
		{"strictload", "/test/load/cmd/strictload", ""},
		{"demo-v1", "/cmd/demo-worker", "v1"},
		{"demo-v2", "/cmd/demo-worker", "v2"},
	} {
		cmd := exec.Command("go", "build", "-buildvcs=false", "-ldflags", "-s -w -X main.version="+b.version,
			"-o", filepath.Join(dir, b.name), module+b.pkg)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("building %s: %w\n%s", b.name, err, out)
		}
	}
	return nil
}
