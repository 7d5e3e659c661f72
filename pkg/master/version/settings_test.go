package version

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// settled is what the store, and another one that is opened on its directory, keep for a version.
func settled(t *testing.T, f *fixture, id, want string) {
	t.Helper()
	for _, s := range []*Store{f.Store, reopened(t, f)} {
		v, ok := s.Get(id)
		if !ok || string(v.Settings) != want {
			t.Errorf("%v, its settings are %s, want %s", ok, v.Settings, want)
		}
	}
}

func reopened(t *testing.T, f *fixture) *Store {
	t.Helper()
	s, err := Open(filepath.Join(f.root, "versions"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Settings are no part of a version's id. Until it has proved itself they are those of the
// last pin, and then those that it has done so with.
func TestSettings(t *testing.T) {
	f := setup(t)
	program := filepath.Join(f.root, "bin", "app")
	place(t, program, elfFile("", "one"))
	pin := func(settings string) Version {
		t.Helper()
		v, err := f.Pin(t.Context(), Source{Program: program, Args: []string{program}, Dir: f.root, Settings: json.RawMessage(settings)})
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	bare := pin("")
	settled(t, f, bare.ID, "") // as an earlier masterd has kept it
	for _, s := range []string{`{"keys":{"a":"1"}}`, `{"keys":{"a":"2"}}`} {
		if v := pin(s); v.ID != bare.ID {
			t.Fatalf("%s is another version", s)
		}
		settled(t, f, bare.ID, s)
	}
	if err := f.Prove(bare.ID, json.RawMessage(`{"keys":{"a":"3"}}`)); err != nil {
		t.Fatal(err)
	}
	pin(`{"keys":{"a":"spoils it"}}`)
	settled(t, f, bare.ID, `{"keys":{"a":"3"}}`)
	if err := f.Hold(bare.ID, true); err != nil {
		t.Fatal(err)
	}
	settled(t, f, bare.ID, `{"keys":{"a":"3"}}`)
	if err := f.Prove(bare.ID, json.RawMessage(`{"keys":{"a":"4"}}`)); err != nil {
		t.Fatal(err)
	}
	settled(t, f, bare.ID, `{"keys":{"a":"4"}}`)
	if err := f.Prove("0123456789ab", nil); err == nil || !strings.Contains(err.Error(), "not in the store") {
		t.Errorf("a version that there is not: %v", err)
	}
	// Proved with the same again nothing is written.
	meta := filepath.Join(f.root, "versions", bare.ID, metaName)
	before, err := os.Stat(meta)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Prove(bare.ID, json.RawMessage(`{"keys":{"a":"4"}}`)); err != nil {
		t.Fatal(err)
	}
	if after, err := os.Stat(meta); err != nil || !os.SameFile(before, after) {
		t.Errorf("it was written again, %v", err)
	}
	// Its program is damaged and pinned anew: what was proved stays.
	if err := os.WriteFile(filepath.Join(f.root, "versions", bare.ID, programName), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	pin(`{"keys":{"a":"5"}}`)
	settled(t, f, bare.ID, `{"keys":{"a":"4"}}`)
}

// What is wrong with settings does not cost the version: its program and its arguments are
// what they were.
func TestSettingsThatNobodyHasWritten(t *testing.T) {
	f := setup(t)
	program := filepath.Join(f.root, "bin", "app")
	place(t, program, elfFile("", "one"))
	v, err := f.Pin(t.Context(), Source{Program: program, Args: []string{program}, Dir: f.root, Settings: json.RawMessage(`{"keys":{}}`)})
	if err != nil {
		t.Fatal(err)
	}
	meta := filepath.Join(f.root, "versions", v.ID, metaName)
	whole, err := os.ReadFile(meta)
	if err != nil {
		t.Fatal(err)
	}
	var r map[string]any
	if err := json.Unmarshal(whole, &r); err != nil {
		t.Fatal(err)
	}
	for want, settings := range map[string]any{"": nil, "7": 7, `"a text"`: "a text", `[1]`: []any{1}, `{"from":"another masterd"}`: map[string]any{"from": "another masterd"}} {
		r["settings"], r["telepathy"] = settings, "of a newer masterd"
		text, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(meta, text, 0o600); err != nil {
			t.Fatal(err)
		}
		s := reopened(t, f)
		if got, ok := s.Get(v.ID); !ok || string(got.Settings) != want || len(s.Problems()) > 0 {
			t.Errorf("%v: %v, %s, %v", settings, ok, got.Settings, s.Problems())
		}
		if _, err := s.ExecutableBy(t.Context(), v.ID, nil); err != nil {
			t.Error(err)
		}
	}
	if err := os.WriteFile(meta, whole[:len(whole)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	if p := reopened(t, f).Problems(); len(p) != 1 || !strings.Contains(p[0], "is damaged") {
		t.Errorf("a record that is cut: %v", p)
	}
}
