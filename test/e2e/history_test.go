package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/masterd/masterd/pkg/api"
)

// Somebody who can write to the state directory changes who did something, or takes it
// out. The verb says which line that is, with a master and without; the log has what he
// cannot compute anew.
func TestHistoryIsVerified(t *testing.T) {
	t.Parallel()
	s := started(t, nil)
	baked(t, s)
	for i := range 3 {
		next(t, s, i+2, "baked")
	}
	path := filepath.Join(s.Dir, "state", "history.jsonl")
	if out := cli(t, s, 0, "history", "--verify"); !strings.Contains(out, "The last line is the one that the running master says") {
		t.Errorf("it says:\n%s", out)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(whole), "\n")
	if len(lines) < 5 {
		t.Fatalf("there are no four lines:\n%s", whole)
	}
	last := len(lines) - 2
	for name, c := range map[string]struct{ text, running, alone string }{
		"changed":  {strings.Replace(string(whole), lines[1], strings.Replace(lines[1], `"by":"`, `"by":"not `, 1), 1), "line 2 of history.jsonl, number 2, was changed", "line 2 of history.jsonl, number 2, was changed"},
		"removed":  {strings.Replace(string(whole), lines[1], "", 1), "Line number 2 is missing before line 2", "Line number 2 is missing before line 2"},
		"last one": {strings.Replace(string(whole), lines[last], "", 1), "missing at the end", ""},
	} {
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if out := cli(t, s, 1, "history", "--verify"); !strings.Contains(out, c.running) {
			t.Errorf("%s: it says:\n%s", name, out)
		}
		if err := os.WriteFile(path, whole, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	out := cli(t, s, 0, "history", "--verify")
	if !strings.Contains(out, "No master runs") {
		t.Errorf("it says:\n%s", out)
	}
	_, digest, _ := strings.Cut(out, "digest is ")
	digest, _, _ = strings.Cut(digest, "\n")
	if len(digest) != 64 || !strings.Contains(s.Log(100_000), digest) {
		t.Errorf("the log does not have the last digest %q", digest)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	wait(t, s, "serving", func(st api.Status) bool { return st.State == "serving" })
	cli(t, s, 0, "history", "--verify")
}
