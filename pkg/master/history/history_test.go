package history

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/api"
)

func entry(n int) api.Entry {
	return api.Entry{At: time.Unix(int64(1e9+n), 0).UTC(), What: "reload", By: "uid 0", To: uint64(n), Outcome: api.ResultDone}
}

func open(t *testing.T, path string) *Log {
	t.Helper()
	l, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// numbers are the generations of entries, short to compare.
func numbers(entries []api.Entry) string {
	var b strings.Builder
	for _, e := range entries {
		fmt.Fprintf(&b, "%d ", e.To)
	}
	return strings.TrimSpace(b.String())
}

// What an older masterd wrote is read, and what one knows more of comes back whole.
func TestCutsComeBackAsTheyWere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.jsonl")
	old := `{"at":"2026-03-04T12:00:00Z","what":"reload","by":"uid 0","to":1,"outcome":"done"}` + "\n"
	if err := os.WriteFile(path, []byte(old), 0o600); err != nil {
		t.Fatal(err)
	}
	l := open(t, path)
	want := entry(2)
	want.What, want.Worker = "cut", 7
	want.Cut = &api.Cut{Connections: 3, Requests: 2, LongestMS: 12300, MedianMS: 400, LastBeat: true}
	if err := l.Append(want); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	got := open(t, path).Last(10)
	if len(got) != 2 || got[0].To != 1 || got[0].Cut != nil || !reflect.DeepEqual(got[1], want) {
		t.Errorf("%+v", got)
	}
}

func TestAppendSurvives(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.jsonl")
	l := open(t, path)
	if got := l.Last(10); len(got) != 0 {
		t.Fatalf("a new history has %v", got)
	}
	for n := range 5 {
		if err := l.Append(entry(n)); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = open(t, path)
	if got := numbers(l.Last(3)); got != "2 3 4" {
		t.Errorf("last three: %s", got)
	}
	if got := numbers(l.Last(1e9)); got != "0 1 2 3 4" || len(l.Last(-1)) != 0 {
		t.Errorf("all: %s", got)
	}
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
}

// What a power cut or a stray hand leaves in the file costs that line only.
func TestGarbage(t *testing.T) {
	good := func(n int) string { return string(encode([]api.Entry{entry(n)})) }
	whole := good(2)
	for name, test := range map[string]struct {
		text    string
		kept    string
		skipped int
	}{
		"torn last line":     {good(1) + whole[:len(whole)/2], "1", 1},
		"newline missing":    {good(1) + strings.TrimSuffix(whole, "\n"), "1 2", 0},
		"garbage lines":      {"\n{}\nnull\n[1]\nxyz\x00\n" + good(1) + "{\"at\":5}\n" + good(2), "1 2", 6},
		"a very long line":   {good(1) + strings.Repeat("x", 3*maxLine) + "\n" + good(2), "1 2", 1},
		"a very long end":    {good(1) + strings.Repeat("x", 3*maxLine), "1", 1},
		"nothing but zeroes": {strings.Repeat("\x00", 4096), "", 1},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "history.jsonl")
			if err := os.WriteFile(path, []byte(test.text), 0o600); err != nil {
				t.Fatal(err)
			}
			l := open(t, path)
			if got := numbers(l.Last(10)); got != test.kept || l.Skipped() != test.skipped {
				t.Fatalf("kept %q, skipped %d; want %q, %d", got, l.Skipped(), test.kept, test.skipped)
			}
			if err := l.Append(entry(9)); err != nil {
				t.Fatal(err)
			}
			again := open(t, path)
			if got := numbers(again.Last(10)); got != strings.TrimSpace(test.kept+" 9") {
				t.Errorf("after one more: %q", got)
			}
			if text, _ := os.ReadFile(path); !bytes.HasSuffix(text, encode([]api.Entry{entry(9)})) {
				t.Errorf("the file ends with %.200q", text[max(0, len(text)-200):])
			}
		})
	}
}

func TestBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.jsonl")
	// As after many restarts: a file just short of its limit.
	var entries []api.Entry
	for n := range maxLines - 1 {
		entries = append(entries, entry(n))
	}
	if err := os.WriteFile(path, encode(entries), 0o600); err != nil {
		t.Fatal(err)
	}
	l := open(t, path)
	for n := maxLines - 1; n < maxLines+3; n++ {
		if err := l.Append(entry(n)); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if lines := bytes.Count(text, []byte("\n")); lines != maxEntries+2 {
		t.Errorf("%d lines after the compaction", lines)
	}
	all := open(t, path).Last(maxLines)
	if len(all) != maxEntries || all[len(all)-1].To != maxLines+2 || all[0].To != 3+maxLines-maxEntries {
		t.Errorf("%d entries, from %d to %d", len(all), all[0].To, all[len(all)-1].To)
	}
	long := entry(1)
	long.Reason = strings.Repeat("ä", maxText)
	if err := l.Append(long); err != nil {
		t.Fatal(err)
	}
	if got := l.Last(1)[0].Reason; len(got) > maxText || !strings.HasSuffix(got, "ä …") {
		t.Errorf("a reason of %d bytes ends with %q", len(got), got[len(got)-10:])
	}
}

// A disk that refuses loses nothing that it takes later, and stops nobody.
func TestFullDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.jsonl")
	l := open(t, path)
	if err := l.Append(entry(1)); err != nil {
		t.Fatal(err)
	}
	good := l.file
	refusing, err := os.Open(path) // read-only: every write fails
	if err != nil {
		t.Fatal(err)
	}
	defer refusing.Close()
	l.file = refusing
	for n := 2; n <= 3; n++ {
		if err := l.Append(entry(n)); err == nil || !strings.Contains(err.Error(), path) {
			t.Fatalf("append to a disk that refuses: %v", err)
		}
	}
	if got := numbers(l.Last(10)); got != "1 2 3" {
		t.Errorf("in memory: %s", got)
	}
	l.file = good
	if err := l.Append(entry(4)); err != nil {
		t.Fatal(err)
	}
	if got := numbers(open(t, path).Last(10)); got != "1 2 3 4" {
		t.Errorf("in the file: %s", got)
	}
}

func TestRefusedPaths(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(dir, "link")
	if err := os.Symlink(filepath.Join(dir, "target"), link); err != nil {
		t.Fatal(err)
	}
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{link, pipe, dir, filepath.Join(dir, "no", "file")} {
		if l, err := Open(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, %v", path, l, err)
		}
	}
}

func TestConcurrentUse(t *testing.T) {
	const writers, each = 4, 20
	path := filepath.Join(t.TempDir(), "history.jsonl")
	l := open(t, path)
	var all sync.WaitGroup
	for i := range writers {
		all.Go(func() {
			for n := range each {
				if err := l.Append(entry(i*each + n)); err != nil {
					t.Error(err)
				}
				_ = l.Last(5)
			}
		})
	}
	all.Wait()
	if got := len(open(t, path).Last(1000)); got != writers*each {
		t.Errorf("%d entries", got)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if err := l.Append(entry(0)); err == nil || len(l.Last(1)) != 1 {
		t.Errorf("append after close: %v", err)
	}
}
