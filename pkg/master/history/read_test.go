package history

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/masterd/masterd/pkg/api"
)

// told are the numbers of entries, and what they stand for where they are none themselves.
func told(entries []api.Entry) string {
	var b strings.Builder
	for _, e := range entries {
		if e.What == api.WhatGap {
			fmt.Fprint(&b, "gap-")
		}
		fmt.Fprintf(&b, "%d ", e.N)
	}
	return strings.TrimSpace(b.String())
}

func appended(t *testing.T, l *Log, from, to int) {
	t.Helper()
	for n := from; n <= to; n++ {
		if err := l.Append(entry(n)); err != nil {
			t.Fatal(err)
		}
	}
}

func reads(t *testing.T, r *Reader, want string) <-chan struct{} {
	t.Helper()
	got, more := r.Next()
	if told(got) != want {
		t.Errorf("it reads %q, want %q", told(got), want)
	}
	return more
}

// Who has read up to a number goes on there, with another master too, and reads each once.
func TestReadersGoOn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.jsonl")
	l := open(t, path)
	appended(t, l, 1, 3)
	r := l.After(1)
	more := reads(t, r, "2 3")
	select {
	case <-more:
		t.Error("there is nothing more")
	default:
	}
	appended(t, l, 4, 4)
	<-more
	reads(t, r, "4")
	reads(t, r, "")
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = open(t, path)
	appended(t, l, 5, 5)
	reads(t, l.After(3), "4 5")
	reads(t, l.After(5), "")
	reads(t, l.After(0), "1 2 3 4 5")
	reads(t, l.Newest(2), "4 5")
	reads(t, l.Newest(0), "")
}

// What is not in memory any more is said, at the beginning and where a reader was too slow.
func TestReadersAreToldOfGaps(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.jsonl")
	l := open(t, path)
	appended(t, l, 1, 1)
	slow := l.After(0)
	reads(t, slow, "1")
	for n := 2; n <= 2*maxEntries+7; n++ { // as if the disk had refused for a while: it is slow
		l.keep(entry(n))
		if l.todo = append(l.todo, entry(n)); n%500 == 7 {
			if err := l.flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	got, _ := slow.Next()
	if len(got) < maxEntries || got[0].What != api.WhatGap || got[0].N+1 != got[1].N || !strings.Contains(got[0].Reason, path) {
		t.Errorf("%d entries, the first are %+v", len(got), got[:2])
	}
	oldest := got[1].N
	late, _ := l.After(3).Next()
	if late[0].What != api.WhatGap || late[0].N != oldest-1 || late[1].N != oldest ||
		!strings.HasPrefix(late[0].Reason, fmt.Sprintf("Entries 4 to %d are not in memory", oldest-1)) {
		t.Errorf("%+v", late[0])
	}
	if just, _ := l.After(oldest - 1).Next(); just[0].N != oldest {
		t.Errorf("nothing is missing before %d: %+v", oldest, just[0])
	}
}

// Files that were taken away: numbers begin anew, and who has read those before is told.
func TestReadersAreToldThatNumbersBeginAnew(t *testing.T) {
	l := open(t, filepath.Join(t.TempDir(), "history.jsonl"))
	appended(t, l, 1, 2)
	got, _ := l.After(500).Next()
	if told(got) != "gap-0 1 2" || !strings.Contains(got[0].Reason, "Numbers begin anew") {
		t.Errorf("%q: %s", told(got), got[0].Reason)
	}
}

// What is in memory alone is read, and has no number that somebody else may get later.
func TestWhatIsNotWrittenHasNoNumber(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.jsonl")
	l := open(t, path)
	appended(t, l, 1, 1)
	file := l.file
	refusing, err := os.Open(path) // read-only: every write fails
	if err != nil {
		t.Fatal(err)
	}
	defer refusing.Close()
	l.file = refusing
	r := l.After(0)
	if l.Append(entry(2)) == nil || l.Append(entry(3)) == nil {
		t.Fatal("the disk takes it")
	}
	more := reads(t, r, "1 0 0")
	reads(t, l.After(1), "0 0")
	l.file = file
	appended(t, l, 4, 4)
	<-more
	reads(t, r, "4")
	reads(t, l.After(1), "2 3 4")
	if text, err := os.ReadFile(path); err != nil || strings.Count(string(text), "\n") != 4 {
		t.Errorf("%s %v", text, err)
	}
}
