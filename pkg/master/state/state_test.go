package state

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/masterd/masterd/pkg/master/rollout"
)

func full(next rollout.Generation) rollout.State {
	v1 := rollout.Version{ID: "0123456789ab", Digest: "sha256:00", Label: "v1"}
	v2 := rollout.Version{ID: "ba9876543210", Digest: "sha256:11", Label: "v2"}
	return rollout.State{
		NextGeneration: next, Active: &v2, Baked: &v1, Kept: []rollout.Version{v1, v2},
		Closed: []string{"sha256:22"}, Hold: "migration", HoldBy: "ana",
	}
}

func TestSaveAndLoad(t *testing.T) {
	dir := t.TempDir()
	if s, err := Load(dir); err != nil || !reflect.DeepEqual(s, rollout.State{}) {
		t.Fatalf("no state yet: %+v, %v", s, err)
	}
	for next := range rollout.Generation(3) {
		want := full(next)
		if err := Save(dir, want); err != nil {
			t.Fatal(err)
		}
		if got, err := Load(dir); err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%+v, %v; want %+v", got, err, want)
		}
	}
	if err := Save(dir, rollout.State{}); err != nil {
		t.Fatal(err)
	}
	if got, err := Load(dir); err != nil || !reflect.DeepEqual(got, rollout.State{}) {
		t.Fatalf("an empty state: %+v, %v", got, err)
	}
	if info, _ := os.Stat(filepath.Join(dir, fileName)); info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
}

// Every field of rollout.State must be in the file: one that is added there and
// forgotten here would be lost at the next start.
func TestNoFieldIsForgotten(t *testing.T) {
	want := full(7)
	value := reflect.ValueOf(want)
	for i := range value.NumField() {
		if value.Field(i).IsZero() {
			t.Fatalf("this test does not know rollout.State.%s", value.Type().Field(i).Name)
		}
	}
	dir := t.TempDir()
	if err := Save(dir, want); err != nil {
		t.Fatal(err)
	}
	if got, _ := Load(dir); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestDamagedFallsBack(t *testing.T) {
	for name, text := range map[string]string{
		"empty": "", "zeroes": "\x00\x00\x00", "torn": `{"schema":1,"next_gen`, "other": `{"a":1}`, "list": "[]", "gone": "",
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, fileName)
			for next := rollout.Generation(1); next <= 2; next++ {
				if err := Save(dir, full(next)); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if name == "gone" {
				os.Remove(path)
			}
			got, err := Load(dir)
			var recovered *RecoveredError
			if !errors.As(err, &recovered) || recovered.File != path || recovered.Saved.IsZero() {
				t.Fatalf("%v", err)
			}
			// A generation number that the lost state had given out must not come again.
			if !reflect.DeepEqual(got, full(1+generationGap)) {
				t.Errorf("%+v", got)
			}
			// Saving again heals, and does not make the damaged one the previous.
			if err := Save(dir, full(5)); err != nil {
				t.Fatal(err)
			}
			if got, err := Load(dir); err != nil || got.NextGeneration != 5 {
				t.Errorf("%+v, %v", got, err)
			}
			if prev, err := read(filepath.Join(dir, prevName)); err != nil || prev.NextGeneration != 1 {
				t.Errorf("previous: %+v, %v", prev, err)
			}
		})
	}
}

func TestBothDamaged(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{fileName, prevName} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, err := Load(dir)
	var damaged *DamagedError
	if !errors.As(err, &damaged) || !strings.Contains(err.Error(), filepath.Join(dir, prevName)) {
		t.Errorf("%v", err)
	}
}

func TestNewerSchema(t *testing.T) {
	dir := t.TempDir()
	for range 2 {
		if err := Save(dir, full(1)); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, fileName)
	if err := os.WriteFile(path, []byte(`{"schema":2,"next_generation":"a new form"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Load(dir)
	var newer *NewerError
	if !errors.As(err, &newer) || newer.Schema != 2 || newer.File != path || s.NextGeneration != 0 {
		t.Errorf("%+v, %v", s, err)
	}
	// Whoever goes on nevertheless does not destroy it.
	if err := Save(dir, full(3)); err != nil {
		t.Fatal(err)
	}
	if _, err := read(filepath.Join(dir, badName)); !errors.As(err, &newer) {
		t.Errorf("%v", err)
	}
}

func TestSaveFails(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "none")
	if err := Save(dir, full(1)); err == nil || !strings.Contains(err.Error(), filepath.Join(dir, fileName)) {
		t.Errorf("%v", err)
	}
	big := full(1)
	big.Hold = strings.Repeat("x", maxState)
	if err := Save(t.TempDir(), big); err == nil {
		t.Error("saved what cannot be read again")
	}
}
