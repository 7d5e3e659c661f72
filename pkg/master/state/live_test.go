package state

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/masterd/masterd/pkg/master/rollout"
)

// golden puts what a masterd of schema 1 has left, changed or not, into a directory.
func golden(t *testing.T, old, by string) string {
	text, err := os.ReadFile("testdata/live-v1.json")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, liveName), bytes.Replace(text, []byte(old), []byte(by), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestLiveOfSchema1 must pass for ever: a newer masterd takes over from an older.
func TestLiveOfSchema1(t *testing.T) {
	l, err := LoadLive(golden(t, "", ""), "boot")
	if err != nil || l == nil {
		t.Fatal(l, err)
	}
	if err := rollout.CheckSnapshot(l.Machine); err != nil {
		t.Error(err)
	}
	m := l.Machine
	if len(m.Generations) < 2 || len(l.Generations) != len(m.Generations) || len(l.Workers) < 4 || m.Bake == nil || m.Parked == 0 || len(m.Have) == 0 || l.Revision != 7 {
		t.Errorf("it reads %+v", l)
	}
}

func TestLiveOfNewerIsRefused(t *testing.T) {
	_, err := LoadLive(golden(t, `"schema": 1`, `"schema": 2`), "boot")
	var newer *NewerError
	if !errors.As(err, &newer) || !strings.Contains(err.Error(), "newer masterd") {
		t.Errorf("it says %v", err)
	}
}

func TestLiveOfAnotherBootIsNone(t *testing.T) {
	if l, err := LoadLive(golden(t, "", ""), "another"); l != nil || err != nil {
		t.Error(l, err)
	}
}

// Who knew of one cgroup only is understood, and none of several is forgotten.
func TestLiveCgroups(t *testing.T) {
	for fields, want := range map[string][]string{
		"":                   nil,
		`"cgroup": "/a",`:    {"/a"},
		`"cgroups": ["/b"],`: {"/b"},
		`"cgroup": "/a", "cgroups": ["/a", "/b"],`: {"/a", "/b"},
	} {
		l, err := LoadLive(golden(t, `"schema": 1,`, `"schema": 1, `+fields), "boot")
		if err != nil {
			t.Fatal(err)
		}
		if got := l.AllCgroups(); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", fields, got, want)
		}
	}
}
