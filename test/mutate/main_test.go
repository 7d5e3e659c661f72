package main

import (
	"os"
	"path/filepath"
	"testing"
)

// The list is of the machine as it is: each mistake can still be made.
func TestEachCanBePlanted(t *testing.T) {
	list, err := read(filepath.Join("../..", source, "testdata", "mutations.list"))
	if err != nil || len(list) == 0 {
		t.Fatalf("%d mutations, %v", len(list), err)
	}
	for _, m := range list {
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS(filepath.Join("../..", source))); err != nil {
			t.Fatal(err)
		}
		if err := m.plant(dir); err != nil {
			t.Errorf("%s: %v", m.title, err)
		}
	}
}
