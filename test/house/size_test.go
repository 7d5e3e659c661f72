package house

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

const (
	maxLines   = 400 // of a file
	maxFields  = 20  // of a struct
	maxColumns = 120 // of a line
)

// longFiles are longer than maxLines, each for a reason.
var longFiles = map[string]string{
	"pkg/master/rollout/worker.go": "the phases of one worker, in their order",
	"test/programs/chat/member.go": "the three protocols by which one member is there",
}

// wideTypes have more fields than maxFields, each for a reason.
var wideTypes = map[string]string{
	"pkg/master/rollout.Machine":        "the state of the machine, whole",
	"pkg/master/rollout.Settings":       "what the configuration says to the machine, value by value",
	"pkg/master/rollout.attempt":        "one rollout, from its request to its end",
	"pkg/master/rollout.generation":     "what the machine knows of a generation",
	"pkg/master/rollout.worker":         "what the machine knows of a worker",
	"pkg/master/rollout.Snapshot":       "kept in live.json: its form is frozen",
	"pkg/master/rollout.SnapAttempt":    "kept in live.json: its form is frozen",
	"pkg/master/rollout.SnapGeneration": "kept in live.json: its form is frozen",
	"pkg/master/state.LiveWorker":       "kept in live.json: its form is frozen",
	"pkg/master/version.record":         "kept in meta.json: its form is frozen",
}

// oldWords were this project's own for what has a name elsewhere; GLOSSARY.md has those that
// it keeps.
var oldWords = strings.Fields("told wish pocket ebb seeoff lobby thin mover manned foreign room")

// goFiles calls each for every file of Go source, by its path from the root.
func goFiles(t *testing.T, each func(path string, text []byte)) {
	t.Helper()
	const root = "../.."
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		path, err = filepath.Rel(root, path)
		each(filepath.ToSlash(path), text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// pkg/master had a method for whatever had no other place, and a field for what the method
// needed; pkg/worker was everything in one namespace. So their size is bounded.
func TestRoomsKeepTheirPurpose(t *testing.T) {
	files, lines := map[string]int{}, map[string]int{}
	goFiles(t, func(path string, text []byte) {
		if !strings.HasSuffix(path, "_test.go") {
			files[filepath.ToSlash(filepath.Dir(path))]++
			lines[filepath.ToSlash(filepath.Dir(path))] += bytes.Count(text, []byte("\n"))
		}
	})
	for _, room := range []struct {
		dir, is          string
		maxFiles, maxAll int
	}{
		{"pkg/master", "the loop and the wiring", 10, 1500},
		{"pkg/worker", "the face that a program sees", 10, 1000},
	} {
		if f, l := files[room.dir], lines[room.dir]; f == 0 || f > room.maxFiles || l > room.maxAll {
			t.Errorf("%s has %d files and %d lines, at most %d and %d: what is more than %s?", room.dir, f, l, room.maxFiles, room.maxAll, room.is)
		}
	}
}

// What is too long for a page of its reader's mind is two things.
func TestFilesAreShort(t *testing.T) {
	long := map[string]bool{}
	goFiles(t, func(path string, text []byte) {
		if n := bytes.Count(text, []byte("\n")); n > maxLines && !strings.HasSuffix(path, "_test.go") {
			long[path] = true
			if longFiles[path] == "" {
				t.Errorf("%s has %d lines, at most %d are readable: split it, or say in longFiles why it is one thing", path, n, maxLines)
			}
		}
	})
	for path := range longFiles {
		if !long[path] {
			t.Errorf("%s is short by now: take it off longFiles", path)
		}
	}
}

// A type with many fields is several, or has no owner.
func TestTypesAreSmall(t *testing.T) {
	wide := map[string]bool{}
	goFiles(t, func(path string, text []byte) {
		dir := filepath.ToSlash(filepath.Dir(path))
		if strings.HasSuffix(path, "_test.go") || dir == "pkg/api" || dir == "pkg/master/config" {
			return // the configuration and the API are as wide as they are
		}
		inspect(t, path, text, func(_ token.Position, n ast.Node) {
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				return
			}
			st, ok := spec.Type.(*ast.StructType)
			if !ok {
				return
			}
			name := dir + "." + spec.Name.Name
			if n := st.Fields.NumFields(); n > maxFields {
				wide[name] = true
				if wideTypes[name] == "" {
					t.Errorf("%s has %d fields, at most %d: give some of them an owner, or say in wideTypes why not", name, n, maxFields)
				}
			}
		})
	})
	for name := range wideTypes {
		if !wide[name] {
			t.Errorf("%s is small by now: take it off wideTypes", name)
		}
	}
}

// wideRooms have lines of code that are wider than maxColumns: tables with a row to a line,
// and messages that are written as they are read.
var wideRooms = regexp.MustCompile(`^(cmd/|pkg/api|pkg/ipc|pkg/master/(admin|check|config|draft|history|logs|probe|rollout|session|state|supervisord|trust|unitfile|version)/)`)

// What is wider than a window is not read to its end.
func TestLinesAreNarrow(t *testing.T) {
	goFiles(t, func(path string, text []byte) {
		test := strings.HasSuffix(path, "_test.go") || strings.HasPrefix(path, "test/") || strings.HasPrefix(path, "examples/")
		for i, line := range strings.Split(string(text), "\n") {
			before, _, comment := strings.Cut(line, "// ")
			if strings.ContainsAny(before, "\"`") {
				comment = false // a URL, or a text that has slashes
			}
			if !comment && (test || wideRooms.MatchString(path) || strings.HasPrefix(line, "func (w *Worker) ")) {
				continue // go doc shows a public signature as it is written
			}
			if n := utf8.RuneCountInString(line); n > maxColumns {
				t.Errorf("%s:%d has %d columns, at most %d", path, i+1, n, maxColumns)
			}
		}
	})
}

// Names are the field's: see GLOSSARY.md.
func TestNamesAreTheFields(t *testing.T) {
	old := map[string]bool{}
	for _, w := range oldWords {
		old[w] = true
	}
	part := regexp.MustCompile(`[A-Z]+[a-z]*|[a-z]+`)
	goFiles(t, func(path string, text []byte) {
		if strings.HasSuffix(path, "_test.go") || !strings.HasPrefix(path, "pkg/") && !strings.HasPrefix(path, "cmd/") {
			return
		}
		look := func(at fmt.Stringer, name string) {
			for _, w := range part.FindAllString(name, -1) {
				if old[strings.ToLower(w)] {
					t.Errorf("%s: %s: %q is a word of our own; GLOSSARY.md has the field's", at, name, strings.ToLower(w))
				}
			}
		}
		look(token.Position{Filename: path}, strings.TrimSuffix(filepath.Base(path), ".go"))
		inspect(t, path, text, func(at token.Position, n ast.Node) {
			switch n := n.(type) {
			case *ast.FuncDecl:
				look(at, n.Name.Name)
			case *ast.TypeSpec:
				look(at, n.Name.Name)
			case *ast.Field:
				for _, name := range n.Names {
					look(at, name.Name)
				}
			}
		})
	})
}

func inspect(t *testing.T, path string, text []byte, each func(at token.Position, n ast.Node)) {
	t.Helper()
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, path, text, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(f, func(n ast.Node) bool {
		if n != nil {
			each(fset.Position(n.Pos()), n)
		}
		return true
	})
}
