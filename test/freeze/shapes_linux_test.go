package freeze

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/state"
)

// TestShapes: each field that the API and live.json can have, by its name there, also
// those that a service which runs well never shows.
func TestShapes(t *testing.T) {
	var b strings.Builder
	for _, v := range []any{
		api.Status{}, api.Versions{}, api.Diff{}, api.History{}, api.LogLine{}, api.Event{}, api.Error{},
		api.ReloadRequest{}, api.RollbackRequest{}, api.ReasonRequest{}, api.PromoteRequest{}, api.PageRequest{}, api.Page{}, api.ScaleRequest{}, api.UpgradeRequest{}, api.StopRequest{},
		state.Live{},
	} {
		typ := reflect.TypeOf(v)
		fmt.Fprintf(&b, "%s\n", typ)
		writeShape(&b, "  ", typ)
	}
	golden(t, "shapes", b.String())
}

// writeShape writes a line for each field: its path in JSON, with ? where it can be
// left out, and what it is.
func writeShape(b *strings.Builder, path string, t reflect.Type) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case t == reflect.TypeFor[time.Time]():
		fmt.Fprintf(b, "%s time\n", path)
	case t.Implements(reflect.TypeFor[json.Marshaler]()):
		text, _ := json.Marshal(reflect.Zero(t).Interface())
		fmt.Fprintf(b, "%s like %s\n", path, text)
	case t.Kind() == reflect.Slice:
		writeShape(b, path+"[]", t.Elem())
	case t.Kind() == reflect.Map:
		writeShape(b, path+"{}", t.Elem())
	case t.Kind() == reflect.Struct:
		for i := range t.NumField() {
			f := t.Field(i)
			name, rest, _ := strings.Cut(f.Tag.Get("json"), ",")
			switch {
			case !f.IsExported() || name == "-":
				continue
			case f.Anonymous && name == "":
				writeShape(b, path, f.Type)
				continue
			case name == "":
				name = f.Name
			}
			if rest != "" {
				name += "?"
			}
			writeShape(b, path+dotted(path)+name, f.Type)
		}
	default:
		fmt.Fprintf(b, "%s %s\n", path, t.Kind())
	}
}

func dotted(path string) string {
	if strings.TrimSpace(path) == "" {
		return ""
	}
	return "."
}

// keys are the paths in a JSON text that was written, each with what lies there.
func keys(t *testing.T, text []byte) []string {
	t.Helper()
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	found := map[string]bool{}
	var look func(path string, v any)
	look = func(path string, v any) {
		switch v := v.(type) {
		case map[string]any:
			for name, below := range v {
				look(path+dotted(path)+name, below)
			}
		case []any:
			for _, below := range v {
				look(path+"[]", below)
			}
		default:
			found[strings.TrimPrefix(fmt.Sprintf("%s %s", path, kindOf(v)), " ")] = true
		}
	}
	look("", v)
	return slices.Sorted(maps.Keys(found))
}

func kindOf(v any) string {
	switch v.(type) {
	case float64:
		return "number"
	case nil:
		return "null"
	}
	return fmt.Sprintf("%T", v)
}
