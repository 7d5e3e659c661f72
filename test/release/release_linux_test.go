// Package release tries a release: what scripts/release-modules.sh tags is installed and built
// against, by Go's own way from a repository to a program.
package release

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	module  = "github.com/masterd/masterd"
	version = "v0.98.7"
)

// published are the modules, in the order in which they are tagged.
var published = []string{"pkg/ipc/", "pkg/worker/", "pkg/worker/ginworker/", ""}

// release is a repository with a release in it, and the environment of somebody elsewhere
// who gets modules from there.
type release struct {
	dir string
	env []string
}

func TestReleasedModules(t *testing.T) {
	r := newRelease(t)
	for _, prefix := range published {
		mod := r.must(t, r.dir, "git", "show", prefix+version+":"+prefix+"go.mod")
		if strings.Contains(mod, "=>") || strings.Contains(mod, "v0.0.0-0001") {
			t.Errorf("%s%s still looks for others in the tree:\n%s", prefix, version, mod)
		}
	}
	if out := r.must(t, r.dir, "git", "status", "--porcelain"); out != "" {
		t.Errorf("left behind: %s", out)
	}
	if out := r.must(t, r.dir, "git", "diff", "HEAD", "HEAD~4"); out != "" {
		t.Errorf("after the release the tree is not what it was:\n%s", out)
	}

	bin := t.TempDir()
	r.with("CGO_ENABLED=0", "GOBIN="+bin).must(t, bin, "go", "install", "-trimpath", module+"/cmd/masterd@"+version)
	if out := r.must(t, bin, filepath.Join(bin, "masterd"), "version"); !strings.Contains(out, version) {
		t.Errorf("masterd says it is %s", out)
	}
	// And a clone of what is tagged has in go.sum all that it needs.
	clone := filepath.Join(t.TempDir(), "clone")
	r.must(t, bin, "git", "clone", "-q", "--branch", version, r.dir, clone)
	for _, prefix := range published {
		r.must(t, filepath.Join(clone, prefix), "go", "list", "-deps", "./...")
	}

	// Whoever adopts the SDK gets that, and no newer version of anything that it has
	// already but x/sys.
	for _, s := range []struct {
		gin   string
		glued bool // with ginworker
	}{{"v1.7.0", false}, {"v1.8.1", true}} {
		t.Run("gin "+s.gin, func(t *testing.T) { r.adopt(t, s.gin, s.glued) })
	}
}

func (r release) adopt(t *testing.T, gin string, glued bool) {
	r.env = append(r.env, "GOFLAGS=-mod=mod -modcacherw")
	dir := t.TempDir()
	write(t, dir, "go.mod", "module shop\n\ngo 1.24\n\nrequire github.com/gin-gonic/gin "+gin+"\n")
	write(t, dir, "main.go", `package main

import "github.com/gin-gonic/gin"

func main() { gin.New().Run() }
`)
	r.must(t, dir, "go", "mod", "tidy")
	before := r.modules(t, dir)

	glue, engine, wanted := "", "gin.New()", []string{module + "/pkg/ipc " + version, module + "/pkg/worker " + version}
	if glued {
		glue, engine = `"`+module+`/pkg/worker/ginworker"`, "ginworker.New()"
		wanted = append(wanted, module+"/pkg/worker/ginworker "+version)
	}
	write(t, dir, "main.go", `package main

import (
	"context"
	"log"

	"github.com/gin-gonic/gin"
	"`+module+`/pkg/worker"
	`+glue+`
)

func main() {
	r := `+engine+`
	r.GET("/healthz", func(c *gin.Context) { c.String(200, "ok") })
	w := worker.New(worker.Options{})
	w.Handle("http", r, worker.Address("127.0.0.1:8080"))
	if err := w.Run(context.Background()); err != nil {
		log.Fatal(err)
	}
}
`)
	get := []string{"get"}
	for _, m := range wanted[1:] {
		get = append(get, strings.Replace(m, " ", "@", 1))
	}
	r.must(t, dir, "go", get...)
	r.must(t, dir, "go", "mod", "tidy")
	r.must(t, dir, "go", "build", "-trimpath", "-o", "shop", ".")
	after := r.modules(t, dir)
	t.Logf("%d modules before, %d after", len(before), len(after))

	for path, was := range before {
		if is := after[path]; is != was && path != "golang.org/x/sys" {
			t.Errorf("%s %s has become %q", path, was, is)
		}
	}
	for path, is := range after {
		if before[path] == "" && path != "golang.org/x/sys" && !slices.Contains(wanted, path+" "+is) {
			t.Errorf("the service gets %s %s", path, is)
		}
	}
	for _, m := range wanted {
		if path, is, _ := strings.Cut(m, " "); after[path] != is {
			t.Errorf("the service has %s %q", path, after[path])
		}
	}
	if mod, err := os.ReadFile(filepath.Join(dir, "go.mod")); err != nil || !strings.Contains(string(mod), "\ngo 1.24\n") {
		t.Errorf("the service asks for another Go: %s, %v", mod, err)
	}
}

// modules are all that a module in dir has in its graph, by their paths.
func (r release) modules(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for line := range strings.Lines(r.must(t, dir, "go", "list", "-m", "all")) {
		if path, version, ok := strings.Cut(strings.TrimSpace(line), " "); ok { // else its own
			all[path] = version
		}
	}
	return all
}

// newRelease makes a repository of the tree as it is, also of what has no commit yet, and
// a release in it. It skips the test where there are no modules to be had, but in a gate,
// which has made do with what it has so far.
func newRelease(t *testing.T) release {
	t.Helper()
	const root = "../.."
	out, err := exec.CommandContext(t.Context(), "git", "-C", root, "ls-files", "-z", "--cached", "--others", "--exclude-standard").Output()
	if err != nil {
		t.Skipf("these sources are no git repository: %v", err)
	}
	goenv := func(name string) string {
		b, err := exec.CommandContext(t.Context(), "go", "env", name).Output()
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(b))
	}
	cache := t.TempDir()
	r := release{dir: t.TempDir(), env: append(os.Environ(), "GOWORK=off", "GOFLAGS=-modcacherw", "GOTOOLCHAIN=local", "GOSUMDB=off",
		"GOPROXY=file://"+goenv("GOMODCACHE")+"/cache/download,"+goenv("GOPROXY"), "GOMODCACHE="+cache,
		"GIT_AUTHOR_NAME=masterd", "GIT_AUTHOR_EMAIL=masterd@localhost", "GIT_COMMITTER_NAME=masterd", "GIT_COMMITTER_EMAIL=masterd@localhost")}
	for _, gin := range []string{"v1.7.0", "v1.8.1"} {
		if out, err := r.run(t.Context(), cache, "go", "list", "-m", "github.com/gin-gonic/gin@"+gin); err != nil {
			say := t.Skipf
			if os.Getenv("CI") == "true" {
				say = t.Fatalf
			}
			say("modules cannot be had here, so no release is tried: %v\n%s", err, out)
		}
	}

	for name := range strings.SplitSeq(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		copyFile(t, filepath.Join(root, name), filepath.Join(r.dir, name))
	}
	r.must(t, r.dir, "git", "init", "-q")
	r.must(t, r.dir, "git", "add", "-A")
	r.must(t, r.dir, "git", "commit", "-q", "-m", "the tree")
	t.Log(r.must(t, r.dir, "scripts/release-modules.sh", version))
	return r.with("GONOPROXY="+module, "GONOSUMDB="+module,
		"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=url.file://"+r.dir+".insteadOf", "GIT_CONFIG_VALUE_0=https://"+module)
}

func (r release) with(env ...string) release {
	r.env = append(r.env[:len(r.env):len(r.env)], env...)
	return r
}

func (r release) run(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	if strings.HasPrefix(name, "scripts/") {
		cmd.Path = filepath.Join(dir, name)
	}
	var out bytes.Buffer
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = dir, r.env, &out, &out
	err := cmd.Run()
	if err != nil {
		err = fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
	}
	return out.String(), err
}

func (r release) must(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	out, err := r.run(t.Context(), dir, name, args...)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return out
}

// copyFile copies a file of the tree with its mode; what git knows of and is gone is left out.
func copyFile(t *testing.T, from, to string) {
	t.Helper()
	info, err := os.Lstat(from)
	if os.IsNotExist(err) {
		return
	} else if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		target, err := os.Readlink(from)
		if err == nil {
			err = os.Symlink(target, to)
		}
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, b, info.Mode().Perm())
	}
	if err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
