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
	"pkg/api":                    {},
	"pkg/ipc":                    {},
	"pkg/worker":                 {"pkg/ipc"},
	"pkg/worker/ginworker":       {"pkg/worker"},
	"pkg/master/rollout":         {},
	"pkg/master/config":          {"pkg/master/trust"},
	"pkg/master/hook":            {"pkg/master/proc"},
	"pkg/master/blob":            {"pkg/ipc", "pkg/master/atomicfile"},
	"pkg/master/proc":            {},
	"pkg/master/keeper":          {"pkg/ipc", "pkg/master/proc"},
	"pkg/master/notify":          {"pkg/ipc"},
	"pkg/master/fdstore":         {"pkg/ipc"},
	"pkg/master/bindsub":         {"pkg/ipc", "pkg/master/proc"},
	"pkg/master/contain":         {"pkg/master/proc"},
	"pkg/master/sockdiag":        {},
	"pkg/master/conns":           {"pkg/master/proc", "pkg/master/sockdiag"},
	"pkg/master/atomicfile":      {},
	"pkg/master/watch":           {},
	"pkg/master/sweep":           {},
	"pkg/master/supervisord":     {"pkg/master/config"},
	"pkg/master/answer":          {"pkg/ipc"},
	"pkg/master/listen":          {"pkg/api", "pkg/ipc", "pkg/master/config", "pkg/master/sockdiag", "pkg/master/trust"},
	"pkg/master/session":         {"pkg/ipc"},
	"pkg/master/probe":           {"pkg/master/config", "pkg/master/proc"},
	"pkg/master/logs":            {"pkg/api"},
	"pkg/master/journal":         {"pkg/api", "pkg/master/trust"},
	"pkg/master/memory":          {"pkg/master/rollout"},
	"pkg/master/version":         {"pkg/master/atomicfile", "pkg/master/trust"},
	"pkg/master/trust":           {},
	"pkg/master/state":           {"pkg/master/rollout", "pkg/master/atomicfile", "pkg/master/proc", "pkg/master/trust"},
	"pkg/master/history":         {"pkg/api", "pkg/master/atomicfile"},
	"pkg/master/admin":           {"pkg/api", "pkg/ipc"},
	"pkg/master/admin/admintest": {"pkg/api"},
	"pkg/master/proc/proctest":   {},
	"pkg/master/rollout/mutate":  {},
	"pkg/master":                 {"pkg/api", "pkg/ipc", "pkg/master/..."},
	"cmd/masterd":                {"pkg/api", "pkg/master", "pkg/master/..."},
	"cmd/demo-worker":            {"pkg/ipc", "pkg/worker", "pkg/worker/..."},
	"test/load":                  {},
	"test/load/cmd/strictload":   {"test/load"},
	"test/service":               {"pkg/api", "pkg/master/contain"},
	"test/programs/plain":        {},
	"test/programs/gin":          {},
	"test/programs/hostile":      {},
	"test/systemd":               {"pkg/api", "test/load", "test/service"},
	"test/tour":                  {"pkg/api", "test/load", "test/service"},
	"test/bench":                 {"pkg/api", "test/load", "test/service"},
}

type pkg struct {
	ImportPath string
	Imports    []string
	GoFiles    []string
	Dir        string
}

func packages(t *testing.T) (all []pkg) {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports,GoFiles,Dir", module+"...").Output()
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
		switch strings.TrimPrefix(p.ImportPath, module) {
		case "pkg/master/rollout":
			for _, i := range p.Imports {
				if root, _, _ := strings.Cut(i, "/"); strings.Contains(root, ".") || slices.Contains(acts, i) || slices.Contains(acts, root) && root != "math" {
					t.Errorf("the core imports %s: it decides and never acts", i)
				}
			}
		case "pkg/worker", "pkg/ipc":
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
	if _, err := exec.LookPath("make"); err != nil {
		t.Skip(err)
	}
	out, err := exec.Command("make", "--no-print-directory", "-s", "-C", "../..", "fuzzers").Output()
	if err != nil {
		t.Fatal(err)
	}
	run := strings.Split(strings.TrimSpace(string(out)), "\n")
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
