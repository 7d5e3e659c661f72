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
	"path/filepath"
	"strings"
	"testing"

	"github.com/masterd/masterd/test/service"
)

const root = "../.."

//go:embed PREVIOUS
var previousFile string

// previous is a whole commit id: the last line of PREVIOUS.
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
// it: in a shallow clone, and in sources without a history. A gate with a complete
// clone fails instead: there it is PREVIOUS that is wrong.
func extract(t *testing.T, dir string) {
	t.Helper()
	if out, err := git(t.Context(), "cat-file", "-e", previous()+"^{commit}"); err != nil {
		shallow, _ := git(t.Context(), "rev-parse", "--is-shallow-repository")
		_, none := os.Lstat(filepath.Join(root, ".git"))
		say := t.Skipf
		if os.Getenv("CI") == "true" && none == nil && strings.TrimSpace(string(shallow)) != "true" {
			say = t.Fatalf
		}
		say("commit %s, the version before, cannot be had: %v %s", previous(), err, out)
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
