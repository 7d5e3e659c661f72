package main

import "testing"

// The lists are of the packages as they are: each mistake can still be made.
func TestEachCanBePlanted(t *testing.T) {
	const root = "../.."
	list, err := all(root)
	if err != nil || len(list) == 0 {
		t.Fatalf("%d mutations, %v", len(list), err)
	}
	for _, m := range list {
		if _, err := m.plant(root, t.TempDir()); err != nil {
			t.Errorf("%s: %v", m.title, err)
		}
	}
}
