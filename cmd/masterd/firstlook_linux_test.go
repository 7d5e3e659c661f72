package main

import (
	"os"
	"path/filepath"
	"testing"
)

// The directory of a first look goes, and no other: neither another configuration's, nor what
// somebody has put there.
func TestEndOfAFirstLook(t *testing.T) {
	base := t.TempDir()
	make := func(name, runtime string) string {
		dir := filepath.Join(base, name)
		for _, sub := range []string{"run", "state/versions"} {
			if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if runtime == "" {
			runtime = filepath.Join(dir, "run")
		}
		if err := os.WriteFile(filepath.Join(dir, "masterd.yaml"), []byte("service: x\nruntime_dir: "+runtime+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	there := func(path string) bool { _, err := os.Lstat(path); return err == nil }
	look := make("masterd-look-1", "")
	endLook(filepath.Join(look, "masterd.yaml"))
	if there(look) {
		t.Error("it is still there")
	}
	kept := make("masterd-look-2", "")
	if err := os.WriteFile(filepath.Join(kept, "mine"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	endLook(filepath.Join(kept, "masterd.yaml"))
	if !there(filepath.Join(kept, "mine")) || there(filepath.Join(kept, "state")) {
		t.Error("what masterd has made goes, and what somebody has put there stays")
	}
	for _, dir := range []string{make("shop", ""), make("masterd-look-3", "/run/masterd/x")} {
		endLook(filepath.Join(dir, "masterd.yaml"))
		if !there(filepath.Join(dir, "state")) || !there(filepath.Join(dir, "masterd.yaml")) {
			t.Errorf("%s is no first look's", dir)
		}
	}
}
