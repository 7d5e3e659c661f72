// Package house holds the walls: which package may import which, and what no
// file may do.
package house

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/masterd/masterd/"

// may says what of this module a package may import; a name that ends in /...
// stands for all below it. A package that is not listed may import nothing.
var may = map[string][]string{
	"pkg/api":        {},
	"pkg/ipc":        {"pkg/ipc/fdpass"},
	"pkg/ipc/fdpass": {},

	"pkg/worker": {"pkg/ipc", "pkg/worker/internal/control", "pkg/worker/internal/measure", "pkg/worker/internal/migrate",
		"pkg/worker/internal/rotate", "pkg/worker/internal/serve", "pkg/worker/internal/state"},
	"pkg/worker/ginworker": {"pkg/worker"},
	"pkg/worker/internal/control": {"pkg/ipc", "pkg/ipc/fdpass", "pkg/worker/internal/measure", "pkg/worker/internal/migrate",
		"pkg/worker/internal/rotate", "pkg/worker/internal/serve", "pkg/worker/internal/state", "pkg/worker/internal/tasks"},
	"pkg/worker/internal/serve": {"pkg/ipc", "pkg/ipc/fdpass", "pkg/worker/internal/goaway",
		"pkg/worker/internal/measure", "pkg/worker/internal/migrate", "pkg/worker/internal/rotate", "pkg/worker/internal/tasks"},
	"pkg/worker/internal/measure":    {"pkg/ipc"},
	"pkg/worker/internal/migrate":    {"pkg/worker/internal/measure", "pkg/ipc", "pkg/ipc/fdpass", "pkg/worker/internal/tasks"},
	"pkg/worker/internal/rotate":     {"pkg/worker/internal/tasks"},
	"pkg/worker/internal/tasks":      {},
	"pkg/worker/internal/goaway":     {"pkg/worker/internal/tasks"},
	"pkg/worker/internal/state":      {"pkg/ipc", "pkg/ipc/fdpass"},
	"pkg/worker/internal/workertest": {},

	"pkg/master/rollout":     {},
	"pkg/master/config":      {"pkg/ipc", "pkg/master/trust"},
	"pkg/master/check":       {"pkg/ipc", "pkg/master/config", "pkg/master/proc", "pkg/master/trust", "pkg/master/version"},
	"pkg/master/hook":        {"pkg/master/proc"},
	"pkg/master/blob":        {"pkg/ipc", "pkg/ipc/fdpass", "pkg/master/atomicfile", "pkg/master/keeper"},
	"pkg/master/proc":        {"pkg/ipc/fdpass", "pkg/master/process"},
	"pkg/master/process":     {},
	"pkg/master/keeper":      {"pkg/ipc", "pkg/ipc/fdpass", "pkg/master/proc", "pkg/master/process"},
	"pkg/master/notify":      {"pkg/ipc/fdpass", "pkg/master/keeper"},
	"pkg/master/fdstore":     {"pkg/ipc/fdpass", "pkg/master/keeper"},
	"pkg/master/bindsub":     {"pkg/ipc/fdpass", "pkg/master/proc", "pkg/master/process"},
	"pkg/master/contain":     {"pkg/master/proc", "pkg/master/process"},
	"pkg/master/sockdiag":    {},
	"pkg/master/claims":      {"pkg/master/process", "pkg/master/sockdiag"},
	"pkg/master/conns":       {"pkg/ipc/fdpass", "pkg/master/process", "pkg/master/sockdiag"},
	"pkg/master/atomicfile":  {},
	"pkg/master/watch":       {"pkg/ipc/fdpass"},
	"pkg/master/sweep":       {"pkg/master/process"},
	"pkg/master/supervisord": {"pkg/master/config", "pkg/master/draft"},
	"pkg/master/unitfile":    {"pkg/master/config", "pkg/master/draft"},
	"pkg/master/draft": {"pkg/ipc", "pkg/ipc/fdpass", "pkg/master/bindsub", "pkg/master/claims", "pkg/master/config", "pkg/master/contain", "pkg/master/proc",
		"pkg/master/process", "pkg/master/version"},
	"pkg/master/answer":                {"pkg/ipc/fdpass"},
	"pkg/master/listen":                {"pkg/api", "pkg/ipc/fdpass", "pkg/master/config", "pkg/master/keeper", "pkg/master/listen/salvage", "pkg/master/listen/steer", "pkg/master/process", "pkg/master/sockdiag", "pkg/master/trust"},
	"pkg/master/listen/steer":          {"pkg/ipc", "pkg/ipc/fdpass", "pkg/master/config", "pkg/master/sockdiag"},
	"pkg/master/listen/salvage":        {"pkg/ipc/fdpass", "pkg/master/config", "pkg/master/listen/steer", "pkg/master/process", "pkg/master/sockdiag"},
	"pkg/master/session":               {"pkg/ipc", "pkg/ipc/fdpass"},
	"pkg/master/probe":                 {"pkg/master/config", "pkg/master/proc"},
	"pkg/master/logs":                  {"pkg/api"},
	"pkg/master/journal":               {"pkg/ipc/fdpass", "pkg/api", "pkg/master/trust"},
	"pkg/master/memory":                {"pkg/master/rollout"},
	"pkg/master/version":               {"pkg/ipc/fdpass", "pkg/master/atomicfile", "pkg/master/trust"},
	"pkg/master/trust":                 {"pkg/ipc/fdpass"},
	"pkg/master/state":                 {"pkg/ipc/fdpass", "pkg/master/rollout", "pkg/master/atomicfile", "pkg/master/process", "pkg/master/trust"},
	"pkg/master/history":               {"pkg/api", "pkg/master/atomicfile"},
	"pkg/master/admin":                 {"pkg/api", "pkg/ipc", "pkg/ipc/fdpass"},
	"pkg/master/analysis":              {},
	"pkg/master/compare":               {"pkg/ipc", "pkg/master/analysis", "pkg/master/counters"},
	"pkg/master/counters":              {"pkg/ipc"},
	"pkg/master/metrics":               {"pkg/api", "pkg/ipc", "pkg/master/counters"},
	"pkg/master/loop":                  {},
	"pkg/master/page":                  {"pkg/api", "pkg/master/recent"},
	"pkg/master/recent":                {"pkg/ipc", "pkg/master/counters"},
	"pkg/master/manager":               {"pkg/master/rollout"},
	"pkg/master/disk":                  {"pkg/master/loop"},
	"pkg/master/rundir":                {"pkg/master/config", "pkg/master/state"},
	"pkg/master/admin/admintest":       {"pkg/api"},
	"pkg/master/analysis/analysistest": {},
	"pkg/master/keeper/keepertest":     {"pkg/ipc/fdpass", "pkg/master/keeper"},
	"pkg/master/proc/proctest":         {},
	"pkg/master/traffic":               {"pkg/ipc/fdpass", "pkg/master/answer", "pkg/master/config", "pkg/master/listen", "pkg/master/loop", "pkg/master/rollout", "pkg/master/workers"},
	"pkg/master/workers": {"pkg/master/analysis", "pkg/master/compare", "pkg/api", "pkg/ipc", "pkg/ipc/fdpass", "pkg/master/bindsub", "pkg/master/blob", "pkg/master/claims", "pkg/master/config", "pkg/master/conns", "pkg/master/contain",
		"pkg/master/counters", "pkg/master/fdstore", "pkg/master/keeper", "pkg/master/listen", "pkg/master/logs", "pkg/master/loop", "pkg/master/notify", "pkg/master/probe", "pkg/master/proc", "pkg/master/process",
		"pkg/master/rollout", "pkg/master/session", "pkg/master/state", "pkg/master/trust", "pkg/master/version"},
	"pkg/master/generations": {"pkg/api", "pkg/master/blob", "pkg/master/check", "pkg/master/config", "pkg/master/counters", "pkg/master/disk", "pkg/master/hook",
		"pkg/master/listen",
		"pkg/master/loop", "pkg/master/rollout", "pkg/master/state", "pkg/master/version", "pkg/master/workers"},
	"pkg/master/takeover": {"pkg/api", "pkg/ipc/fdpass", "pkg/master/bindsub", "pkg/master/blob", "pkg/master/config", "pkg/master/contain", "pkg/master/counters", "pkg/master/disk",
		"pkg/master/generations", "pkg/master/keeper", "pkg/master/listen", "pkg/master/loop", "pkg/master/notify", "pkg/master/proc", "pkg/master/process", "pkg/master/rollout", "pkg/master/state",
		"pkg/master/traffic", "pkg/master/workers"},
	"pkg/master/operator": {"pkg/master/analysis", "pkg/master/compare", "pkg/api", "pkg/ipc/fdpass", "pkg/master/admin", "pkg/master/blob", "pkg/master/config", "pkg/master/contain", "pkg/master/counters",
		"pkg/master/disk", "pkg/master/generations", "pkg/master/history", "pkg/master/journal", "pkg/master/listen", "pkg/master/loop", "pkg/master/manager", "pkg/master/memory", "pkg/master/proc",
		"pkg/master/recent", "pkg/master/rollout", "pkg/master/state", "pkg/master/takeover", "pkg/master/version", "pkg/master/watch", "pkg/master/workers"},
	"pkg/master":               {"pkg/api", "pkg/ipc", "pkg/ipc/fdpass", "pkg/master/..."},
	"cmd/masterd":              {"docs/man", "pkg/api", "pkg/ipc/fdpass", "pkg/master", "pkg/master/..."},
	"docs/man":                 {},
	"cmd/demo-worker":          {"pkg/ipc", "pkg/worker", "pkg/worker/..."},
	"test/load":                {},
	"test/load/cmd/strictload": {"test/load"},
	"test/service":             {"pkg/api", "pkg/master/contain"},
	"test/service/servicetest": {"test/service"},
	"test/programs/chat":       {"pkg/worker", "pkg/worker/ginworker"},
	"test/programs/answers":    {},
	"test/programs/plain":      {},
	"test/programs/gin":        {},
	"test/programs/hostile":    {},
	"test/programs/locks":      {"pkg/worker"},
	"test/mutate":              {},
	"test/systemd":             {"pkg/api", "test/load", "test/service"},
	"test/tour":                {"pkg/api", "test/load", "test/service"},
	"test/bench":               {"pkg/api", "pkg/master/analysis", "pkg/master/analysis/analysistest", "pkg/master/compare", "test/load", "test/service"},
}

type pkg struct {
	ImportPath string
	Imports    []string
	GoFiles    []string
	Dir        string
}

func packages(t *testing.T, env ...string) (all []pkg) {
	t.Helper()
	list := exec.Command("go", "list", "-json=ImportPath,Imports,GoFiles,Dir", module+"...")
	list.Env = append(os.Environ(), env...)
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// What is promised for other systems is what `make lint` looks at there, and nothing has
// files for them besides: rooms that only the daemon uses need none.
func TestOtherSystems(t *testing.T) {
	patterns := target(t, "portable")
	there := map[string]pkg{} // as other systems have them
	for _, p := range packages(t, "GOOS=darwin", "GOARCH=arm64") {
		there[strings.TrimPrefix(p.ImportPath, module)] = p
	}
	named := map[string]bool{} // by Go's own reading: a pattern ends where a module does
	for _, path := range output(t, "../..", []string{"GOOS=darwin", "GOARCH=arm64"}, "go", append([]string{"list"}, patterns...)...) {
		named[strings.TrimPrefix(path, module)] = true
	}
	for _, pattern := range patterns {
		below, all := strings.CutSuffix(strings.TrimPrefix(pattern, "./"), "/...")
		found := named[below]
		for name := range named {
			found = found || all && strings.HasPrefix(name, below+"/")
		}
		if !found {
			t.Errorf("PORTABLE in the Makefile names %s, and there is nothing", pattern)
		}
	}
	for _, name := range []string{"cmd/masterd", "cmd/demo-worker", "pkg/worker", "pkg/worker/ginworker", "pkg/ipc", "pkg/api"} {
		if !named[name] {
			t.Errorf("the README promises %s on other systems: PORTABLE in the Makefile does not name it", name)
		}
	}
	same := map[string]bool{} // the same files everywhere
	for _, p := range packages(t, "GOOS=linux", "GOARCH=arm64") {
		name := strings.TrimPrefix(p.ImportPath, module)
		other := there[name].GoFiles
		same[name] = slices.Equal(p.GoFiles, other)
		extra := slices.DeleteFunc(slices.Clone(other), func(f string) bool { return slices.Contains(p.GoFiles, f) })
		if len(extra) > 0 && !named[name] {
			t.Errorf("%s has %s for other systems, and PORTABLE in the Makefile does not name it; if only the daemon uses it they can go", name, strings.Join(extra, ", "))
		}
	}
	var plain func(name string) bool // so is all that it imports
	plain = func(name string) bool {
		return same[name] && !slices.ContainsFunc(there[name].Imports, func(i string) bool {
			to, ours := strings.CutPrefix(i, module)
			return ours && !plain(to)
		})
	}
	for name, p := range there {
		if !named[name] {
			if !strings.HasPrefix(name, "test/") && len(p.GoFiles) > 0 && plain(name) {
				t.Errorf("%s is plain Go, and PORTABLE in the Makefile does not name it", name)
			}
			continue
		}
		for _, i := range p.Imports {
			if to, ours := strings.CutPrefix(i, module); ours && !named[to] {
				t.Errorf("%s imports %s on other systems, and PORTABLE in the Makefile does not name it", name, to)
			}
		}
	}
}

func TestArrowsPointOneWay(t *testing.T) {
	for _, p := range packages(t) {
		name := strings.TrimPrefix(p.ImportPath, module)
		if len(p.GoFiles) == 0 { // tests only
			continue
		}
		allowed, known := may[name]
		if !known {
			t.Errorf("%s is not in the plan of the house: say in ARCHITECTURE.md what it is for, and here what it may import", name)
		}
		for _, i := range p.Imports {
			to, ours := strings.CutPrefix(i, module)
			if ours && !slices.ContainsFunc(allowed, func(a string) bool {
				below, all := strings.CutSuffix(a, "...")
				return a == to || all && strings.HasPrefix(to, below)
			}) {
				t.Errorf("%s imports %s", name, to)
			}
		}
	}
}

func TestWhatTheCoreAndTheSDKImport(t *testing.T) {
	acts := []string{"os", "net", "sync", "context", "math/rand", "io", "log", "syscall"}
	for _, p := range packages(t) {
		switch name := strings.TrimPrefix(p.ImportPath, module); {
		case name == "pkg/master/rollout":
			for _, i := range p.Imports {
				if root, _, _ := strings.Cut(i, "/"); strings.Contains(root, ".") || slices.Contains(acts, i) || slices.Contains(acts, root) && root != "math" {
					t.Errorf("the core imports %s: it decides and never acts", i)
				}
			}
		case name == "pkg/worker", strings.HasPrefix(name, "pkg/worker/internal/"), name == "pkg/ipc", name == "pkg/ipc/fdpass":
			for _, i := range p.Imports {
				if root, _, _ := strings.Cut(i, "/"); strings.Contains(root, ".") && !strings.HasPrefix(i, module) && !strings.HasPrefix(i, "golang.org/x/sys/") {
					t.Errorf("%s imports %s: a user's dependency tree is theirs", p.ImportPath, i)
				}
			}
		}
	}
}

// TestWhatNoFileMayDo: accidents that happened to others, kept from happening here.
func TestWhatNoFileMayDo(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	fset := token.NewFileSet()
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") {
			return err
		}
		test := strings.HasSuffix(path, "_test.go") || strings.Contains(path, "/test/")
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		f, err := parser.ParseFile(fset, path, src, 0)
		if err != nil {
			return err
		}
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				if n.Recv == nil && n.Name.Name == "init" {
					t.Errorf("%s: func init(): build it in a constructor and pass it down", fset.Position(n.Pos()))
				}
			case *ast.SelectorExpr:
				if n.Sel.Name == "ExtraFiles" && !test {
					t.Errorf("%s: ExtraFiles clears O_NONBLOCK for every process that shares the socket", fset.Position(n.Pos()))
				}
			}
			return true
		})
		core := filepath.Base(filepath.Dir(path)) == "rollout" && !test
		if core && (bytes.Contains(src, []byte("time.Now(")) || bytes.Contains(src, []byte("time.Since("))) {
			t.Errorf("%s reads a clock: time is an argument in the core", path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestTheMapIsTrue: a room that ARCHITECTURE.md does not show is not found, and one that it
// shows and is not there is looked for in vain.
func TestTheMapIsTrue(t *testing.T) {
	text, err := os.ReadFile("../../ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	shown := map[string]bool{}
	for _, m := range regexp.MustCompile("`((?:cmd|pkg|test|docs)/[a-z0-9/]+)`").FindAllStringSubmatch(string(text), -1) {
		shown[m[1]] = true
		if _, err := os.Stat(filepath.Join("../..", m[1])); err != nil {
			t.Errorf("ARCHITECTURE.md names %s: %v", m[1], err)
		}
	}
	for _, p := range packages(t) {
		dir := strings.TrimPrefix(p.ImportPath, module)
		testOnly := strings.HasSuffix(dir, "test") && strings.Count(dir, "/") > 2
		if strings.HasPrefix(dir, "pkg/") && !testOnly && !shown[dir] {
			t.Errorf("ARCHITECTURE.md does not show %s", dir)
		}
	}
}

// TestPromisesAreTried: a promise whose test is gone or has another name is none.
func TestPromisesAreTried(t *testing.T) {
	root, there := "../..", map[string]bool{}
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		src, err := os.ReadFile(path)
		for _, m := range regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`).FindAllSubmatch(src, -1) {
			there[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range []string{"SECURITY.md", "docs/security.md"} {
		text, err := os.ReadFile(filepath.Join(root, page))
		if err != nil {
			t.Fatal(err)
		}
		names := regexp.MustCompile(`\b(?:Test|Fuzz)[A-Z]\w*`).FindAllString(string(text), -1)
		for _, name := range names {
			if !there[name] {
				t.Errorf("%s names %s, and there is no such test", page, name)
			}
		}
		if len(names) == 0 {
			t.Errorf("%s names no test", page)
		}
	}
}

// What is there to be fuzzed is fuzzed: `make fuzz` runs every fuzz target of the module.
func TestEveryFuzzTargetIsRun(t *testing.T) {
	lines := target(t, "fuzzers") // of two words
	var run []string
	for two := range slices.Chunk(lines, 2) {
		run = append(run, strings.Join(two, " "))
	}
	var there []string
	for _, p := range packages(t) {
		files, err := filepath.Glob(filepath.Join(p.Dir, "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range f.Decls {
				if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && strings.HasPrefix(fn.Name.Name, "Fuzz") {
					there = append(there, strings.TrimPrefix(p.ImportPath, module)+" "+fn.Name.Name)
				}
			}
		}
	}
	slices.Sort(there)
	slices.Sort(run)
	if !slices.Equal(there, run) {
		t.Errorf("there are\n  %s\nand make fuzz runs\n  %s", strings.Join(there, "\n  "), strings.Join(run, "\n  "))
	}
}
