package history

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/masterd/masterd/pkg/api"
)

// written makes a history of some files, with so many lines each, and says how it ends.
func written(t *testing.T, each ...int) (path string, end End) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "history.jsonl")
	l := open(t, path)
	n := 0
	for i, lines := range each {
		if i > 0 {
			l.rotate()
		}
		for range lines {
			if err := l.Append(entry(n)); err != nil {
				t.Fatal(err)
			}
			n++
		}
	}
	end = l.End()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return path, end
}

// change does something to the lines of one of the files.
func change(t *testing.T, path string, file int, do func(lines []string) []string) {
	t.Helper()
	full, err := fullFiles(path)
	if err != nil {
		t.Fatal(err)
	}
	p := append(full, path)[file]
	lines := slices.Collect(strings.Lines(string(must(os.ReadFile(p)))))
	if err := os.WriteFile(p, []byte(strings.Join(do(lines), "")), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Somebody changes the history, and the first line that he has changed or taken out is
// named. Lines are counted from one, and so are numbers.
func TestWhatWasChangedIsNamed(t *testing.T) {
	edit := func(i int) func([]string) []string {
		return func(l []string) []string {
			l[i] = strings.Replace(l[i], "root (uid 0)", "mallory (uid 1000)", 1)
			return l
		}
	}
	for name, c := range map[string]struct {
		file    int
		do      func(l []string) []string
		want    string
		withEnd bool // only whoever knows the last line's digest can tell
	}{
		"a line":              {1, edit(1), "line 2 of history-000000000008.jsonl, number 6, was changed", false},
		"the first line":      {0, edit(0), "line 1 of history-000000000004.jsonl, number 1, was changed", false},
		"a file's last line":  {0, edit(3), "line 4 of history-000000000004.jsonl, number 4, was changed", false},
		"a file's first line": {2, edit(0), "line 1 of history.jsonl, number 9, was changed", false},
		"the last but one":    {2, edit(2), "line 3 of history.jsonl, number 11, was changed", false},
		"the last line":       {2, edit(3), "line 4 of history.jsonl, number 12, was changed", true},
		"one is taken out": {1, func(l []string) []string { return slices.Delete(l, 1, 2) },
			"Line number 6 is missing before line 2 of history-000000000008.jsonl", false},
		"two are taken out": {1, func(l []string) []string { return slices.Delete(l, 1, 3) },
			"Lines number 6 to 7 are missing before line 2 of history-000000000008.jsonl", false},
		"a file's end is cut": {0, func(l []string) []string { return l[:2] },
			"Lines number 3 to 4 are missing before line 1 of history-000000000008.jsonl", false},
		"the end is cut": {2, func(l []string) []string { return l[:2] }, "Lines number 11 to 12 are missing at the end", true},
		"half a line is cut": {2, func(l []string) []string { l[3] = l[3][:20]; return l },
			"Line number 12 is missing at the end", true},
		"all are taken out":  {2, func(l []string) []string { return nil }, "Lines number 9 to 12 are missing at the end", true},
		"one is there twice": {1, func(l []string) []string { return slices.Insert(l, 1, l[1]) }, "line 3 of history-000000000008.jsonl is number 6", false},
		"two change places":  {1, func(l []string) []string { l[1], l[2] = l[2], l[1]; return l }, "Line number 6 is missing", false},
		"one is put in":      {1, func(l []string) []string { return slices.Insert(l, 1, old(7)) }, "line 2 of history-000000000008.jsonl was changed", false},
		"garbage":            {1, func(l []string) []string { l[2] = "\x00\n"; return l }, "line 3 of history-000000000008.jsonl was changed", false},
		"a very long line":   {1, func(l []string) []string { l[2] = strings.Repeat("x", 3*maxLine) + "\n"; return l }, "line 3 of history-000000000008.jsonl was changed", false},
		"its number":         {1, func(l []string) []string { l[1] = strings.Replace(l[1], `"n":6`, `"n":7`, 1); return l }, "line 2 of history-000000000008.jsonl, number 7, was changed", false},
		"its digest of before": {1, func(l []string) []string {
			i := strings.Index(l[1], `"prev":"`) + 8
			l[1] = l[1][:i] + strings.Repeat("0", 64) + l[1][i+64:]
			return l
		}, "line 2 of history-000000000008.jsonl, number 6, was changed", false},
		"white space": {1, func(l []string) []string { l[1] = " " + l[1]; return l }, "line 2 of history-000000000008.jsonl, number 6, was changed", false},
	} {
		t.Run(name, func(t *testing.T) {
			path, end := written(t, 4, 4, 4)
			if r, err := Verify(path, &end); err != nil || r.Wrong != "" || len(r.Files) != 3 {
				t.Fatalf("before: %+v, %v", r, err)
			}
			change(t, path, c.file, c.do)
			r, err := Verify(path, &end)
			if err != nil || !strings.Contains(r.Wrong, c.want) {
				t.Errorf("%q, %v; want %q", r.Wrong, err, c.want)
			}
			if r, err = Verify(path, nil); err != nil || c.withEnd != (r.Wrong == "" || !strings.Contains(r.Wrong, c.want)) {
				t.Errorf("without knowing its end: %q, %v", r.Wrong, err)
			}
			// It is read all the same, and goes on.
			l := open(t, path)
			if err := l.Append(entry(99)); err != nil {
				t.Fatal(err)
			}
			if all := l.Last(1); numbers(all) != "99" {
				t.Errorf("%+v", all)
			}
		})
	}
}

// A whole file is taken away: between two it is missed, the oldest one may have gone for
// its age.
func TestFilesThatAreMissing(t *testing.T) {
	path, end := written(t, 4, 4, 4)
	full, err := fullFiles(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(full[1]); err != nil {
		t.Fatal(err)
	}
	if r, err := Verify(path, &end); err != nil || !strings.HasPrefix(r.Wrong, "Lines number 5 to 8 are missing before line 1 of history.jsonl") {
		t.Errorf("%q, %v", r.Wrong, err)
	}
	if err := os.Remove(full[0]); err != nil {
		t.Fatal(err)
	}
	if r, err := Verify(path, &end); err != nil || r.Wrong != "" || r.Files[0].First != 9 {
		t.Errorf("%+v, %v", r, err)
	}
}

// Who can write all of it can compute all digests anew. Then only one that was noted
// elsewhere tells.
func TestWhoWritesAllOfItAnew(t *testing.T) {
	path, end := written(t, 4)
	var h head
	var text []byte
	for n := range 4 {
		e := entry(n)
		e.By = "nobody"
		var one []byte
		one, h = encode(h, []api.Entry{e})
		text = append(text, one...)
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if r, err := Verify(path, nil); err != nil || r.Wrong != "" {
		t.Errorf("%q, %v", r.Wrong, err)
	}
	if r, err := Verify(path, &end); err != nil || !strings.Contains(r.Wrong, "was changed") {
		t.Errorf("%q, %v", r.Wrong, err)
	}
}

// A master that dies anywhere in a change of files leaves what the next one goes on with.
func TestDeathsWhileAnotherFileIsBegun(t *testing.T) {
	for name, die := range map[string]func(path string) error{
		"before the new one is there": func(path string) error { return os.Rename(path, fullName(path, 4)) },
		"before a line is in it": func(path string) error {
			if err := os.Rename(path, fullName(path, 4)); err != nil {
				return err
			}
			return os.WriteFile(path, nil, 0o600)
		},
		"within its first line": func(path string) error {
			if err := os.Rename(path, fullName(path, 4)); err != nil {
				return err
			}
			return os.WriteFile(path, []byte(`{"at":"2026`), 0o600)
		},
	} {
		t.Run(name, func(t *testing.T) {
			path, _ := written(t, 4)
			if err := die(path); err != nil {
				t.Fatal(err)
			}
			l := open(t, path)
			for n := 4; n < 6; n++ {
				if err := l.Append(entry(n)); err != nil {
					t.Fatal(err)
				}
			}
			end := l.End()
			if r, err := Verify(path, &end); err != nil || r.Wrong != "" || fmt.Sprint(r.Files[0].Last, r.Files[1].First, end.Line) != "4 5 6" {
				t.Errorf("%+v, %v", r, err)
			}
			if got := numbers(l.Last(10)); got != "0 1 2 3 4 5" {
				t.Errorf("%s", got)
			}
		})
	}
}

// Whatever lies there, it is read and judged.
func FuzzVerify(f *testing.F) {
	f.Add([]byte(lines(entry(1), entry(2))))
	f.Add([]byte(old(1) + "\n\x00{}" + lines(entry(2))))
	f.Fuzz(func(t *testing.T, text []byte) {
		var v verifier
		var file File
		var l Log
		length, n := int64(0), 0
		if err := scan(bytes.NewReader(text), func(s scanned) error {
			length += s.length
			n++
			l.take(s)
			if v.report.Wrong == "" {
				v.line(&file, s, fmt.Sprintf("line %d", n))
			}
			return nil
		}); err != nil || length != int64(len(text)) {
			t.Fatalf("%d of %d bytes, %v", length, len(text), err)
		}
		v.finish()
		if n != len(l.entries)+l.skipped {
			t.Errorf("%d lines, %d entries, %d skipped", n, len(l.entries), l.skipped)
		}
	})
}
