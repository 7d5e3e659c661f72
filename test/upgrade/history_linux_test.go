// Package upgrade takes services from the version before to this one and back, with
// live workers of every kind under a strict load. The file PREVIOUS says which commit
// the version before is.
package upgrade

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/masterd/masterd/test/service"
)

const root = "../.."

//go:embed PREVIOUS
var previousFile string

// previous is the id of a tree, which says what the files were, whatever the commit that
// has them is called after a rebase: the last line of PREVIOUS.
func previous() string {
	lines := strings.Split(strings.TrimSpace(previousFile), "\n")
	return lines[len(lines)-1]
}

// builtPrograms builds the version before, from the repository's own history, and this one.
func builtPrograms(t *testing.T) (before, present service.Programs) {
	t.Helper()
	source, old, now := t.TempDir(), t.TempDir(), t.TempDir()
	extract(t, source)
	// Without paths in what is compiled, so that the next run finds it in Go's cache.
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags=-s -w", "-o", old+"/", "./cmd/masterd", "./cmd/demo-worker")
	build.Dir, build.Env = source, append(os.Environ(), "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building %s, the version before: %v\n%s", previous(), err, out)
	}
	present, err := service.Build(t.Context(), now)
	if err != nil {
		t.Fatal(err)
	}
	return service.Built(old), present
}

// extract puts the version before into dir, or skips the test where the history lacks
// it: in a shallow clone, and in sources without a history.
func extract(t *testing.T, dir string) {
	t.Helper()
	if _, err := git(t.Context(), "cat-file", "-e", previous()+"^{tree}"); err != nil {
		t.Skipf("NOT tried: the version before, tree %s, cannot be had: %v", previous(), err)
	}
	archive, err := git(t.Context(), "archive", "--format=tar", previous())
	if err != nil {
		t.Fatal(err)
	}
	tar := exec.CommandContext(t.Context(), "tar", "-x", "-C", dir)
	tar.Stdin = bytes.NewReader(archive)
	if out, err := tar.CombinedOutput(); err != nil {
		t.Fatalf("tar: %v\n%s", err, out)
	}
}

func git(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "git", append([]string{"-C", root}, args...)...)
	out, err := cmd.Output()
	if failed, ok := err.(*exec.ExitError); ok {
		err = fmt.Errorf("git %s: %w: %s", args[0], err, bytes.TrimSpace(failed.Stderr))
	}
	return out, err
}
