package version

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
)

// A Go program says what is in it; of others nothing is known.
func TestMentions(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := "masterd-is-" + strings.Repeat("no", 2) + "-where" // put together here: this program has it nowhere
	if isGo, there := Mentions(self, "debug/buildinfo"); !isGo || !there {
		t.Errorf("this program: Go %v, mentions %v", isGo, there)
	}
	if isGo, there := Mentions(self, elsewhere); !isGo || there {
		t.Errorf("this program: Go %v, mentions what it has not %v", isGo, there)
	}
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho needle\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	files := []string{script, filepath.Dir(script), "/dev/zero", script + ".none"}
	if sh, err := exec.LookPath("sh"); err == nil {
		files = append(files, sh)
	}
	for _, file := range files {
		if isGo, there := Mentions(file, "needle"); isGo || there {
			t.Errorf("%s: Go %v, mentions %v", file, isGo, there)
		}
	}
}

// What goes from one piece that was read into the next is found too.
func TestSearch(t *testing.T) {
	for at := searchPiece - 8; at <= searchPiece+1; at++ {
		text := strings.Repeat("x", at) + "needle" + strings.Repeat("y", 10)
		if there, err := search(strings.NewReader(text), []byte("needle")); err != nil || !there {
			t.Errorf("at %d: %v %v", at, there, err)
		}
	}
	if there, err := search(iotest.OneByteReader(strings.NewReader("nneedle")), []byte("needle")); err != nil || !there {
		t.Errorf("byte by byte: %v %v", there, err)
	}
	if there, err := search(strings.NewReader("needl"), []byte("needle")); err != nil || there {
		t.Errorf("a part: %v %v", there, err)
	}
	if _, err := search(iotest.ErrReader(os.ErrInvalid), []byte("needle")); err == nil {
		t.Error("a file that cannot be read was searched")
	}
}
