package worker

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// A user's dependency tree is theirs: the standard library, x/sys and the
// control protocol are all that this package brings, with what is below it.
func TestImports(t *testing.T) {
	const module = "github.com/masterd/masterd/pkg/"
	ours := func(path string) bool {
		below, is := strings.CutPrefix(path, module+"worker/internal/")
		return is && below != "workertest" || path == module+"ipc" || path == module+"ipc/fdpass"
	}
	seen := 0
	err := filepath.WalkDir(".", func(file string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "ginworker" || d.Name() == "testdata"): // the glue for Gin imports Gin
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go"):
			return nil
		}
		seen++
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range f.Imports {
			path, _ := strconv.Unquote(spec.Path.Value)
			std := !strings.Contains(strings.Split(path, "/")[0], ".")
			if !std && !strings.HasPrefix(path, "golang.org/x/sys/") && !ours(path) {
				t.Errorf("%s imports %s", file, path)
			}
		}
		return nil
	})
	if err != nil || seen == 0 {
		t.Fatal(seen, err)
	}
}
