package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/test/service"
)

// variant writes a program that is another one by its digest only.
func variant(t *testing.T, s *service.Service, path, mark string) {
	t.Helper()
	b, err := os.ReadFile(s.Demo)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append(b, mark...), 0o755); err != nil {
		t.Fatal(err)
	}
}

// install renames a variant over the program, as install(1) and builds do.
func install(t *testing.T, s *service.Service, program, mark string) {
	t.Helper()
	variant(t, s, program+".new", mark)
	if err := os.Rename(program+".new", program); err != nil {
		t.Fatal(err)
	}
}

func TestWatch(t *testing.T) {
	t.Parallel()
	s := newService(t)
	program := filepath.Join(s.Dir, "program")
	variant(t, s, program, "")
	const cooldown = time.Second
	s.Config.Set("worker.command", []string{program}).Set("rollout.watch", true).
		Set("rollout.cooldown", cooldown.String()).Set("rollout.max_per_minute", 100)
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	baked(t, s)
	moves := func(what string, change func()) {
		t.Helper()
		before := active(t, s)
		change()
		wait(t, s, "a reload after "+what, func(st api.Status) bool {
			return st.Active != nil && st.Active.Generation > before && st.Active.Baked && st.Rollout == nil
		})
		st := status(t, s)
		if st.Active.By != "the file watch" {
			t.Errorf("%s: by %q", what, st.Active.By)
		}
		if st.Active.Generation != before+1 {
			t.Errorf("%s: generation %d, before it was %d: one change is one reload", what, st.Active.Generation, before)
		}
	}
	underLoad(t, s, quietRate(), func() {
		moves("a rename over the program", func() { install(t, s, program, "1") })
		moves("a slow copy", func() {
			b, err := os.ReadFile(s.Demo)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(program); err != nil { // it runs
				t.Fatal(err)
			}
			f, err := os.OpenFile(program, os.O_CREATE|os.O_WRONLY, 0o755)
			if err != nil {
				t.Fatal(err)
			}
			b = append(b, "2"...)
			for len(b) > 0 {
				n := min(len(b), 4<<20)
				if _, err := f.Write(b[:n]); err != nil {
					t.Fatal(err)
				}
				b = b[n:]
				time.Sleep(100 * time.Millisecond) // a slow network
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
		})
		moves("a change of the configuration", func() {
			s.Config.Set("worker.env.RELEASE", "3")
			if err := s.Write(); err != nil {
				t.Fatal(err)
			}
		})
		// A bad one is not taken.
		if err := os.WriteFile(s.File, []byte("service: [\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the refusal in the log", func() bool { return strings.Contains(s.Log(50), "reload refused") })
	})
}

func TestAutomaticReloadsAreHeldBack(t *testing.T) {
	t.Parallel()
	s := newService(t)
	program := filepath.Join(s.Dir, "program")
	variant(t, s, program, "")
	const cooldown = 2 * time.Second
	s.Config.Set("worker.command", []string{program}).Set("rollout.watch", true).Set("rollout.cooldown", cooldown.String())
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	baked(t, s)
	var since []time.Time
	for i, mark := range []string{"1", "2"} {
		install(t, s, program, mark)
		wait(t, s, "the automatic reload", func(st api.Status) bool {
			if st.Active.Generation != uint64(i+2) {
				return false
			}
			since = append(since, st.Active.Since)
			return true
		})
	}
	if between := since[1].Sub(since[0]); between < cooldown {
		t.Errorf("%s between two automatic reloads, the cooldown is %s", between, cooldown)
	}
	// People are not made to wait.
	s.Config.Set("rollout.cooldown", "1h")
	next(t, s, 2, "serving")
}

func TestWatchOfASymlink(t *testing.T) {
	t.Parallel()
	s := newService(t)
	for _, release := range []string{"r1", "r2"} {
		if err := os.Mkdir(filepath.Join(s.Dir, release), 0o755); err != nil {
			t.Fatal(err)
		}
		variant(t, s, filepath.Join(s.Dir, release, "program"), release)
	}
	current := filepath.Join(s.Dir, "current")
	point := func(release string) {
		if err := os.Symlink(release, current+".new"); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(current+".new", current); err != nil {
			t.Fatal(err)
		}
	}
	point("r1")
	s.Config.Set("worker.command", []string{filepath.Join(current, "program")}).Set("rollout.watch", true)
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	baked(t, s)
	first := status(t, s).Active.Version.Digest
	underLoad(t, s, quietRate(), func() {
		point("r2")
		wait(t, s, "the other release", func(st api.Status) bool { return st.Active.Version.Digest != first })
	})
}

func TestARolledBackDigestIsClosedToAutomation(t *testing.T) {
	t.Parallel()
	s := newService(t)
	program := filepath.Join(s.Dir, "program")
	variant(t, s, program, "")
	s.Config.Set("worker.command", []string{program}).Set("rollout.watch", true).Set("rollout.cooldown", "0s")
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	baked(t, s)
	digest := func() string { return status(t, s).Active.Version.Digest }
	good := digest()
	install(t, s, program, "bad")
	wait(t, s, "the bad one", func(st api.Status) bool { return st.Active.Version.Digest != good })
	bad := digest()
	back(t, s, "")
	if digest() != good {
		t.Fatal("not rolled back")
	}
	install(t, s, program, "other")
	wait(t, s, "another", func(st api.Status) bool {
		return st.Active.Version.Digest != good && st.Active.Version.Digest != bad && st.Active.Baked && st.Rollout == nil
	})
	other := active(t, s)
	install(t, s, program, "bad")
	eventually(t, "the refusal in the log", func() bool { return strings.Contains(s.Log(50), "closed to automatic reloads") })
	if got := active(t, s); got != other {
		t.Errorf("generation %d, want %d", got, other)
	}
	if out := cli(t, s, 0, "versions"); !strings.Contains(out, "rolled back") {
		t.Errorf("versions:\n%s", out)
	}
	cli(t, s, 0, "reload")
	if digest() != bad {
		t.Error("a person may try it again")
	}
}
