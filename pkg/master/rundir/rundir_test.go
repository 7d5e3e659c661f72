package rundir

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/state"
)

// thing is something in the directory.
type thing struct {
	looks int
	made  bool
	err   error
}

func (p *thing) Mend() (bool, error) { p.looks++; return p.made, p.err }

// live is live.json.
type live struct{ lost, written int }

func (l *live) LiveLost() bool { return l.lost > 0 }
func (l *live) WriteAgain()    { l.lost--; l.written++ }

func newDir(t *testing.T, l *live, parts ...*thing) (*Dir, *observer.ObservedLogs) {
	t.Helper()
	core, logs := observer.New(zap.InfoLevel)
	d := &Dir{Log: zap.New(core), Config: &config.Config{RuntimeDir: filepath.Join(t.TempDir(), "run"), Service: "test"}, Live: l}
	for _, p := range parts {
		d.Parts = append(d.Parts, Part{Mender: p, What: "a thing"})
	}
	return d, logs
}

// What is gone is made again, with the directory itself, and live.json is asked for.
func TestWhatIsGoneIsMadeAgain(t *testing.T) {
	l, gone, there := &live{lost: 1}, &thing{made: true}, &thing{}
	d, logs := newDir(t, l, gone, there)
	d.Mend()
	if info, err := os.Stat(d.Config.RuntimeDir); err != nil || !info.IsDir() {
		t.Errorf("there is no directory: %v", err)
	}
	if gone.looks != 1 || there.looks != 1 || l.written != 1 {
		t.Errorf("looked at %d and %d times, written %d times", gone.looks, there.looks, l.written)
	}
	if n := logs.FilterMessageSnippet("is made again").Len(); n != 1 || logs.Len() != 1 {
		t.Errorf("it was said %d times that something was made, in %d lines", n, logs.Len())
	}
	d.Mend()
	if l.written != 1 {
		t.Error("live.json is written though nothing of it is gone")
	}
}

// A directory that is another master's by now is left as it is: nothing is made there, and
// nothing taken away.
func TestAnotherMastersDirectoryIsLeftAlone(t *testing.T) {
	l, later := &live{lost: 1}, &thing{made: true}
	d, _ := newDir(t, l, &thing{err: &state.HeldError{}}, later)
	d.Index = t.TempDir()
	d.Mend()
	if !d.Ousted() || later.looks != 0 || l.written != 0 {
		t.Errorf("ousted %v, looked at %d times, written %d times", d.Ousted(), later.looks, l.written)
	}
	if err := d.Leave(); err != nil {
		t.Error(err)
	}
	if entries, err := os.ReadDir(d.Index); err != nil || len(entries) != 0 {
		t.Errorf("in the index there are %v: %v", entries, err)
	}
}

// What cannot be made is tried each second, and said once a minute.
func TestWhatCannotBeMadeIsSaidOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := &thing{err: errors.New("no space left on device")}
		d, logs := newDir(t, &live{}, broken)
		ctx, cancel := context.WithTimeout(t.Context(), 150*time.Second+interval/2)
		defer cancel()
		d.Keep(ctx)
		if broken.looks != 150 {
			t.Errorf("it was tried %d times in 150 s", broken.looks)
		}
		if n := logs.Len(); n != 3 || !strings.Contains(logs.All()[0].Message, "cannot be made again") {
			t.Errorf("it was said %d times: %v", n, logs.All())
		}
	})
}
