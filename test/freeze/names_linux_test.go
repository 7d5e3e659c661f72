package freeze

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/importer"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestPublicNames: what programs that import the SDK can name, with its type. Where in
// the package, or below it, something is declared makes no difference.
func TestPublicNames(t *testing.T) {
	list := exec.CommandContext(t.Context(), "go", "list", "-export", "-deps", "-json=ImportPath,Export",
		module+"pkg/worker", module+"pkg/worker/ginworker", module+"pkg/ipc")
	list.Stderr = os.Stderr
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	compiled := map[string]string{}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct{ ImportPath, Export string }
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		compiled[p.ImportPath] = p.Export
	}
	from := importer.ForCompiler(token.NewFileSet(), "gc", func(path string) (io.ReadCloser, error) { return os.Open(compiled[path]) })
	for name, path := range map[string]string{"worker": "pkg/worker", "ginworker": "pkg/worker/ginworker", "ipc": "pkg/ipc"} {
		p, err := from.Import(module + path)
		if err != nil {
			t.Fatal(err)
		}
		golden(t, "names-"+name, names(p))
	}
}

func names(p *types.Package) string {
	var b strings.Builder
	own := types.RelativeTo(p)
	for _, name := range p.Scope().Names() {
		o := p.Scope().Lookup(name)
		if !o.Exported() {
			continue
		}
		switch o := o.(type) {
		case *types.Const:
			fmt.Fprintf(&b, "const %s %s = %s\n", name, types.TypeString(o.Type(), own), o.Val().ExactString())
		case *types.TypeName:
			writeType(&b, o, own)
		default:
			fmt.Fprintln(&b, types.ObjectString(o, own))
		}
	}
	return b.String()
}

func writeType(b *strings.Builder, o *types.TypeName, own types.Qualifier) {
	t := types.Unalias(o.Type())
	switch u := t.Underlying().(type) {
	case *types.Struct:
		fmt.Fprintf(b, "type %s struct\n", o.Name())
		for i := range u.NumFields() {
			if f := u.Field(i); f.Exported() {
				fmt.Fprintf(b, "\t%s %s", f.Name(), types.TypeString(f.Type(), own))
				if u.Tag(i) != "" {
					fmt.Fprintf(b, " `%s`", u.Tag(i))
				}
				b.WriteByte('\n')
			}
		}
	case *types.Signature:
		text := types.TypeString(u, own)
		if ofOurOwn(u) {
			text = "func of our own"
		}
		fmt.Fprintf(b, "type %s %s\n", o.Name(), text)
	default:
		fmt.Fprintf(b, "type %s %s\n", o.Name(), types.TypeString(u, own))
	}
	if types.IsInterface(t) {
		return
	}
	methods := types.NewMethodSet(types.NewPointer(t))
	for i := range methods.Len() {
		if m := methods.At(i).Obj(); m.Exported() {
			fmt.Fprintf(b, "\tfunc %s%s\n", m.Name(), strings.TrimPrefix(types.TypeString(m.Type(), own), "func"))
		}
	}
}

// ofOurOwn: it takes what others cannot name, so that they cannot write one.
func ofOurOwn(s *types.Signature) bool {
	for i := range s.Params().Len() {
		t := s.Params().At(i).Type()
		if p, ok := t.(*types.Pointer); ok {
			t = p.Elem()
		}
		if n, ok := t.(*types.Named); ok && n.Obj().Pkg() != nil && (!n.Obj().Exported() || strings.Contains(n.Obj().Pkg().Path(), "/internal/")) {
			return true
		}
	}
	return false
}
