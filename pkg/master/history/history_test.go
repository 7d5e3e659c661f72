package history

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/masterd/masterd/pkg/api"
)

func entry(n int) api.Entry {
	return api.Entry{At: time.Unix(int64(1e9+n), 0).UTC(), What: "reload", By: "root (uid 0)", To: uint64(n), Outcome: api.ResultDone}
}

// lines are entries as an older masterd wrote them, or as they are where nothing is before them.
func lines(entries ...api.Entry) string {
	text, _ := encode(head{}, entries)
	return string(text)
}

func old(n int) string {
	text, err := json.Marshal(entry(n))
	if err != nil {
		panic(err)
	}
	return string(text) + "\n"
}

func open(t *testing.T, path string) *Log {
	t.Helper()
	l, err := Open(path, nil)
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
	want.N = 2
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
	good := old
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
			if text, _ := os.ReadFile(path); !bytes.HasSuffix(text, []byte("}\n")) {
				t.Errorf("the file ends with %.200q", text[max(0, len(text)-200):])
			}
			if r, err := Verify(path, nil); err != nil || r.Wrong != "" {
				t.Errorf("%+v, %v", r, err)
			}
		})
	}
}

// Nothing is forgotten for the number of entries; of each file there is a name, and
// who keeps the log was told how it ends.
func TestFullFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.jsonl")
	var ends []End
	l, err := Open(path, func(e End) { ends = append(ends, e) })
	if err != nil {
		t.Fatal(err)
	}
	e := entry(0)
	e.Reason = strings.Repeat("x", maxText)
	const n = 3000 // 12 MiB
	for i := range n {
		e.To = uint64(i)
		l.todo = append(l.todo, e) // as if the disk had refused: it takes a while otherwise
		if i%100 == 99 {
			if err := l.flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	full, err := fullFiles(path)
	if err != nil || len(full) != 3 {
		t.Fatalf("%v, %v", full, err)
	}
	r, err := Verify(path, nil)
	if err != nil || r.Wrong != "" || len(r.Files) != 4 || r.Files[0].First != 1 || r.Files[3].Last != n {
		t.Fatalf("%+v, %v", r, err)
	}
	var whys []string
	for _, end := range ends {
		whys = append(whys, end.Why)
		i := slices.IndexFunc(r.Files, func(f File) bool { return f.Name == end.File })
		if end.Why != "opened" && (i < 0 || r.Files[i].Digest != end.Digest || r.Files[i].Last != end.Line) {
			t.Errorf("%+v was told, and it is %+v", end, r.Files)
		}
	}
	if fmt.Sprint(whys) != "[opened full full full closed]" {
		t.Errorf("%v", whys)
	}
	// What was there is there again, across the files.
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	l = open(t, path)
	if all := l.Last(n); len(all) != 900 || l.End().Line != r.Files[2].Last {
		t.Errorf("%d entries, %+v", len(all), l.End())
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

// A day of the most that there can be, six a minute, is two files; a file ends after 30
// days in any case, and is kept for 180.
func TestHowLongItIsKept(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "history.jsonl")
	var gone []End
	l, err := Open(path, func(e End) {
		if e.Why == "removed" {
			gone = append(gone, e)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now().Add(-400 * 24 * time.Hour)
	for day := range 400 { // three a day
		for i := range 3 {
			e := entry(day)
			e.At = begin.Add(time.Duration(day)*24*time.Hour + time.Duration(i)*time.Hour)
			l.todo = append(l.todo, e)
		}
		if err := l.flush(); err != nil {
			t.Fatal(err)
		}
		full, err := fullFiles(path) // their time is that of the last line
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range full {
			if info, err := os.Stat(f); err == nil && time.Since(info.ModTime()) < time.Hour {
				at := begin.Add(time.Duration(day) * 24 * time.Hour)
				if err := os.Chtimes(f, at, at); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	l.prune()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := Verify(path, nil)
	if err != nil || r.Wrong != "" || r.Files[len(r.Files)-1].Last != 1200 {
		t.Fatalf("%+v, %v", r, err)
	}
	if kept := 1200 - r.Files[0].First + 1; kept < 3*180 || kept > 3*(180+31) {
		t.Errorf("%d of 1,200 entries of 400 days are there: %+v", kept, r.Files)
	}
	if len(gone) == 0 || gone[len(gone)-1].Line != r.Files[0].First-1 {
		t.Errorf("%+v were removed", gone)
	}
}

// What an older masterd has left is read, counted and followed.
func TestAHistoryWithoutDigests(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.jsonl")
	var text strings.Builder
	for n := range 1500 {
		text.WriteString(old(n))
	}
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	l := open(t, path)
	for n := 1500; n < 1503; n++ {
		if err := l.Append(entry(n)); err != nil {
			t.Fatal(err)
		}
	}
	if all := l.Last(5); numbers(all) != "1498 1499 1500 1501 1502" {
		t.Errorf("%s", numbers(all))
	}
	end := l.End()
	r, err := Verify(path, &end)
	if err != nil || r.Wrong != "" || r.Files[0].Without != 1500 || r.Files[0].Last != 1503 {
		t.Errorf("%+v, %v", r, err)
	}
	// An older masterd again: it understands what it finds, and leaves the rest out.
	for line := range strings.Lines(string(must(os.ReadFile(path)))) {
		var e struct {
			What string
			To   int
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil || e.What != "reload" {
			t.Fatalf("%s: %v", line, err)
		}
	}
}

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}

// A crash loop is a line a minute, whatever numbers are in it; what a person does is one
// each time.
func TestRepeatsAreFolded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "history.jsonl")
		l := open(t, path)
		crash := func(n int) api.Entry {
			return api.Entry{At: time.Now(), What: "crash", By: "masterd", Worker: uint64(n), Outcome: "failed", Version: "v1", Reason: fmt.Sprintf("worker %d: exit status 3", n)}
		}
		for n := range 600 { // ten minutes
			if err := l.Append(crash(n)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		if got := l.Last(1)[0]; got.Worker != 599 || got.Repeats == 0 {
			t.Errorf("the last one is %+v", got)
		}
		for n := range 3 {
			e := entry(n)
			e.At = time.Now()
			if err := l.Append(e); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		l = open(t, path)
		all, sum := l.Last(100), 0
		for _, e := range all[:len(all)-3] {
			sum += max(e.Repeats, 1)
		}
		if sum != 600 || len(all) > 20 || numbers(all[len(all)-3:]) != "0 1 2" {
			t.Errorf("%d crashes in %d lines: %+v", sum, len(all), all)
		}
		// What another process has written is no reason to wait with the first.
		again := all[len(all)-4]
		again.Repeats = 0
		if err := l.Append(again); err != nil || l.Last(1)[0].Repeats != 0 {
			t.Errorf("%v, %+v", err, l.Last(1))
		}
	})
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
		if l, err := Open(path, nil); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, %v", path, l, err)
		}
	}
}

// Whatever cannot be read or written there is a log, and it is bounded.
func TestThereIsAlwaysALog(t *testing.T) {
	for name, growing := range map[string]bool{"the growing file": true, "the full one": false} {
		path := filepath.Join(t.TempDir(), "history.jsonl")
		full := fullName(path, 7)
		in, other := path, full
		if !growing {
			in, other = full, path
		}
		if err := errors.Join(os.Mkdir(in, 0o700), os.WriteFile(other, []byte(old(1)), 0o600)); err != nil {
			t.Fatal(err)
		}
		l, err := Open(path, nil)
		if err == nil || !strings.Contains(err.Error(), in) || (l.Unwritten() != nil) != growing {
			t.Fatalf("%s: %v, %v", name, err, l.Unwritten())
		}
		for n := range 2 * maxEntries {
			if err := l.Append(entry(n + 2)); (err != nil) != growing {
				t.Fatalf("%s: %v", name, err)
			}
		}
		if got := numbers(l.Last(1)); got != strconv.Itoa(2*maxEntries+1) || len(l.todo) > maxEntries {
			t.Errorf("%s: the last one is %s, %d wait", name, got, len(l.todo))
		}
		if end := l.End().Line; !growing && end != 7+1+2*maxEntries { // by the full one's name
			t.Errorf("%s: it ends at line %d", name, end)
		}
		if err := l.Close(); err != nil {
			t.Errorf("%s: %v", name, err)
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

// Skipped tells how many lines of the file were torn or not entries.
func (l *Log) Skipped() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.skipped
}
