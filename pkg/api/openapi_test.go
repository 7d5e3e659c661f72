package api

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// schema is as much of a JSON schema as the API needs.
type schema struct {
	Type       string
	Format     string
	Ref        string `yaml:"$ref"`
	Items      *schema
	Required   []string
	Properties map[string]*schema
	Enum       []string
}

func schemas(t *testing.T) map[string]*schema {
	t.Helper()
	var doc struct {
		Components struct{ Schemas map[string]*schema }
	}
	if err := yaml.Unmarshal([]byte(OpenAPI()), &doc); err != nil {
		t.Fatalf("openapi.yaml: %v", err)
	}
	return doc.Components.Schemas
}

// bodies are the types that travel by themselves; the others are found in them.
func bodies() []any {
	return []any{
		Status{}, Versions{}, Version{}, Diff{}, History{}, LogLine{}, Event{}, Error{},
		ReloadRequest{}, RollbackRequest{}, ReasonRequest{}, PromoteRequest{}, PageRequest{}, Page{}, ScaleRequest{}, UpgradeRequest{}, StopRequest{},
	}
}

func TestSchemasAreTheTypes(t *testing.T) {
	described := schemas(t)
	types := map[string]reflect.Type{}
	for _, b := range bodies() {
		collect(types, reflect.TypeOf(b))
	}
	for _, name := range slices.Sorted(maps.Keys(described)) {
		if _, ok := types[name]; !ok {
			t.Errorf("openapi.yaml describes %s, which no body holds", name)
		}
	}
	for name, typ := range types {
		s := described[name]
		if s == nil {
			t.Errorf("openapi.yaml does not describe %s", name)
			continue
		}
		if typ.Kind() == reflect.Struct {
			compare(t, name, typ, s)
		}
	}
}

// collect finds the named types of the API within one.
func collect(types map[string]reflect.Type, typ reflect.Type) {
	switch {
	case typ.Kind() == reflect.Pointer, typ.Kind() == reflect.Slice, typ.Kind() == reflect.Array:
		collect(types, typ.Elem())
	case typ == reflect.TypeFor[Duration]():
		types[typ.Name()] = typ
	case typ.Kind() == reflect.Struct && typ != reflect.TypeFor[time.Time]():
		types[typ.Name()] = typ
		for f := range typ.Fields() {
			collect(types, f.Type)
		}
	}
}

func compare(t *testing.T, name string, typ reflect.Type, s *schema) {
	var required, fields []string
	for f := range typ.Fields() {
		tag := strings.Split(f.Tag.Get("json"), ",")
		fields = append(fields, tag[0])
		if len(tag) == 1 {
			required = append(required, tag[0])
		}
		p := s.Properties[tag[0]]
		if p == nil {
			t.Errorf("openapi.yaml lacks %s.%s", name, tag[0])
			continue
		}
		if got, want := shape(p), shapeOf(f.Type); got != want {
			t.Errorf("openapi.yaml says that %s.%s is %s; it is %s", name, tag[0], got, want)
		}
	}
	for p := range s.Properties {
		if !slices.Contains(fields, p) {
			t.Errorf("openapi.yaml describes %s.%s, which there is not", name, p)
		}
	}
	if !slices.Equal(s.Required, required) {
		t.Errorf("openapi.yaml says that %s always has %v; it has %v", name, s.Required, required)
	}
}

// shape is a schema in a word.
func shape(s *schema) string {
	switch {
	case s.Ref != "":
		return strings.TrimPrefix(s.Ref, "#/components/schemas/")
	case s.Type == "array" && s.Items != nil:
		return "list of " + shape(s.Items)
	case s.Format == "date-time":
		return "time"
	}
	return s.Type
}

func shapeOf(t reflect.Type) string {
	switch {
	case t.Kind() == reflect.Pointer:
		return shapeOf(t.Elem())
	case t == reflect.TypeFor[time.Time]():
		return "time"
	case t == reflect.TypeFor[Duration](), t.Kind() == reflect.Struct:
		return t.Name()
	case t.Kind() == reflect.Slice, t.Kind() == reflect.Array:
		return "list of " + shapeOf(t.Elem())
	case t.Kind() == reflect.Map:
		return "object"
	case t.Kind() == reflect.String:
		return "string"
	case t.Kind() == reflect.Bool:
		return "boolean"
	case t.Kind() == reflect.Float64:
		return "number"
	}
	return "integer"
}

func TestResultsAreDescribed(t *testing.T) {
	want := []string{ResultDone, ResultFailed, ResultRolledBack, ResultHeld, ResultSuperseded, ResultInvalid, ResultAccepted}
	if got := schemas(t)["Outcome"].Properties["result"].Enum; !slices.Equal(got, want) {
		t.Errorf("openapi.yaml lists the results %v; they are %v", got, want)
	}
}
