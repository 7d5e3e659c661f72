package rollout

import (
	"go/parser"
	"go/token"
	"os"
	"strconv"
	"strings"
	"testing"
)

// TestImports holds the promise of doc.go: the package decides and never acts,
// so it has nothing to act with.
func TestImports(t *testing.T) {
	forbidden := []string{"os", "net", "sync", "context", "syscall", "unsafe", "io", "log", "runtime", "plugin", "embed"}
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".go") || strings.HasSuffix(e.Name(), "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), e.Name(), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		checked++
		for _, imp := range f.Imports {
			path, _ := strconv.Unquote(imp.Path.Value)
			root, _, _ := strings.Cut(path, "/")
			if strings.Contains(root, ".") {
				t.Errorf("%s imports %s, which is not of the standard library", e.Name(), path)
			}
			for _, bad := range forbidden {
				if root == bad {
					t.Errorf("%s imports %s", e.Name(), path)
				}
			}
		}
		src, err := os.ReadFile(e.Name())
		if err != nil {
			t.Fatal(err)
		}
		for _, bad := range []string{"time.Now", "time.Since", "time.Until", "time.After", "time.Sleep", "time.NewTimer", "rand.IntN", "rand.Int64N", "rand.Float", "go func"} {
			if i := strings.Index(string(src), bad); i >= 0 && (i == 0 || src[i-1] != '.') {
				t.Errorf("%s uses %s: time and chance are handed in, and nothing runs beside the machine", e.Name(), bad)
			}
		}
	}
	if checked < 10 {
		t.Fatalf("only %d files looked at", checked)
	}
}
