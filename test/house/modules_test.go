package house

import (
	"encoding/json"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The modules of go.work are tested together. Others are apart, because what they need is
// nobody else's business: the targets of the Makefile that go there, by what they name.
var (
	apart = map[string]string{"examples/*": "examples", "test/examples": "examples", "test/h2spec": "h2spec", "test/browser": "browser"}
	// needs are all modules that one of the SDK's has in its graph; nil: those of Gin, too.
	needs = map[string][]string{
		"pkg/ipc":              {"golang.org/x/sys"},
		"pkg/worker":           {module + "pkg/ipc", "golang.org/x/sys"},
		"pkg/worker/ginworker": nil,
	}
)

func output(t *testing.T, dir string, env []string, name string, args ...string) []string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Env, cmd.Stderr = dir, append(os.Environ(), env...), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v", name, strings.Join(args, " "), err)
	}
	return strings.Fields(string(out))
}

// target is what a target of the Makefile prints.
func target(t *testing.T, name string) []string {
	t.Helper()
	if _, err := exec.LookPath("make"); err != nil {
		t.Skip(err)
	}
	return output(t, "../..", nil, "make", "--no-print-directory", "-s", name)
}

// `go test ./...` runs the tests of one module, and says nothing of the others: with GOWORK=off
// so does what `make test` runs, and then this test fails, too.
func TestNoTestIsLeftOut(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	files := "{{range .TestGoFiles}}{{$.Dir}}/{{.}}\n{{end}}{{range .XTestGoFiles}}{{$.Dir}}/{{.}}\n{{end}}"
	run := map[string]int{} // by file: its tests
	for _, path := range output(t, root, nil, "go", append([]string{"list", "-f", files}, target(t, "tested")...)...) {
		run[path] = countTests(t, path)
	}
	there, all := 0, 0
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(root, path)
		isApart := func(pattern string) bool { is, _ := filepath.Match(pattern, name); return is }
		switch {
		case d.IsDir() && (slices.ContainsFunc(slices.Collect(maps.Keys(apart)), isApart) || d.Name() == "testdata" || d.Name() != "." && strings.HasPrefix(d.Name(), ".")):
			return filepath.SkipDir
		case d.Name() == "go.mod" && name != "go.mod":
			if _, known := needs[filepath.Dir(name)]; !known {
				t.Errorf("%s: a module that nothing here knows of: nobody tests it", name)
			}
		case strings.HasSuffix(name, "_test.go"):
			n := countTests(t, path)
			if _, is := run[path]; !is && n > 0 {
				t.Errorf("%s has %d tests, and make test leaves them out", name, n)
			}
			there += n
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range run {
		all += n
	}
	if t.Logf("%d tests are there, make test runs %d", there, all); there != all || all == 0 {
		t.Errorf("%d tests are there, and make test runs %d", there, all)
	}
}

var aTest = regexp.MustCompile(`(?m)^func (?:Test|Fuzz|Example)[^a-z(]\w*\(`)

func countTests(t *testing.T, path string) int {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return len(aTest.FindAll(b, -1))
}

// What goes over all packages goes over those of all modules.
func TestAllIsAllModules(t *testing.T) {
	scripts, err := filepath.Glob("../../scripts/*.sh")
	if err != nil || len(scripts) == 0 {
		t.Fatal(scripts, err)
	}
	for _, path := range append(scripts, "../../Makefile", "../../.ci/run") {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for i, line := range strings.Split(string(text), "\n") {
			if strings.Contains(line, " ./...") && !strings.Contains(line, "GOWORK=off") && !strings.HasPrefix(line, "#") {
				t.Errorf("%s:%d: ./... is one module of several; $(ALL) is all of them: %s", filepath.Base(path), i+1, line)
			}
		}
	}
	container, err := os.ReadFile("../../deploy/container/Containerfile")
	for dir := range needs {
		if !strings.Contains(string(container), " "+dir+"/go.mod ") {
			t.Errorf("the Containerfile has no %s/go.mod, so go mod download fails in it; %v", dir, err)
		}
	}
	makefile, err := os.ReadFile("../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	for dir, by := range apart {
		if mods, err := filepath.Glob(filepath.Join("../..", dir, "go.mod")); len(mods) == 0 {
			t.Errorf("there is no module %s: %v", dir, err)
		}
		recipe := regexp.MustCompile(`(?m)^` + by + `:.*\n(?:\t.*\n)+`).FindString(string(makefile))
		if !strings.Contains(recipe, dir) {
			t.Errorf("make %s does not name %s", by, dir)
		}
	}
}

// The tests that the gate runs with each release of Go are there, the negative controls first.
func TestMigrationIsTriedWithEachGo(t *testing.T) {
	tried := regexp.MustCompile(target(t, "migration")[0])
	for name, file := range map[string]string{
		"TestAConnectionThatIsNotIdleStays":    "internal/migrate/conn_test.go",
		"TestNoByteIsLostWhileConnectionsMove": "torture_test.go",
		"TestAnIdleConnectionMoves":            "handover_test.go",
		"TestHandOff":                          "handoff_test.go",
	} {
		text, err := os.ReadFile(filepath.Join("../../pkg/worker", file))
		if err != nil || !strings.Contains(string(text), "func "+name+"(") || !tried.MatchString(name) {
			t.Errorf("%s is not tried by %q, or not there: %v", name, tried, err)
		}
	}
}

// A user's dependency tree is theirs, and so is the Go that they build with.
func TestWhatTheSDKNeeds(t *testing.T) {
	alone := []string{"GOWORK=off"}
	oldest := target(t, "supported")[0]
	for dir, wanted := range needs {
		at := filepath.Join("../..", dir)
		var mod struct{ Go string }
		if err := json.Unmarshal([]byte(strings.Join(output(t, at, alone, "go", "mod", "edit", "-json"), " ")), &mod); err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(oldest, "go"+mod.Go+".") {
			t.Errorf("%s asks for Go %s, and make sdk tries none older than %s", dir, mod.Go, oldest)
		}
		all := output(t, at, alone, "go", "list", "-m", "-f", "{{if not .Main}}{{.Path}}{{end}}", "all")
		slices.Sort(all)
		if wanted = slices.Sorted(slices.Values(wanted)); wanted != nil && !slices.Equal(all, wanted) {
			t.Errorf("%s needs %q, and may need %q", dir, all, wanted)
		}
		if i := slices.Index(all, strings.TrimSuffix(module, "/")); i >= 0 {
			t.Errorf("%s needs the daemon", dir)
		}
	}
}
