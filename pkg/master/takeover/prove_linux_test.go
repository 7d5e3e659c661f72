package takeover

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What a binary says when it cannot prove itself is told, whichever of its outputs it
// says it on, and no more of it than is bounded.
func TestWhatNoProofSays(t *testing.T) {
	program := filepath.Join(t.TempDir(), "program")
	for said, text := range map[string]string{
		"no good": "sleep 0.05; echo no good; exit 3",
		"nogood!": "sleep 0.05; echo nogood! >&2; exit 3",
		"xxxx\n":  "yes xxxx 2>/dev/null | head -c 1000000 >&2; exit 3",
	} {
		if err := os.WriteFile(program, []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		_, err := ProveBinary(t.Context(), Self{Program: program})
		if err == nil || !strings.Contains(err.Error(), said) || len(err.Error()) > maxProof+1000 {
			t.Errorf("%q: it says %.200v", text, err)
		}
	}
}
