package takeover

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/master/blob"
	"github.com/masterd/masterd/pkg/master/compare"
	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/generations"
	"github.com/masterd/masterd/pkg/master/rollout"
	"github.com/masterd/masterd/pkg/master/state"
	"github.com/masterd/masterd/pkg/master/version"
	"github.com/masterd/masterd/pkg/master/workers"
)

// fakeMaster is the loop's owner, of which only the moments of writing matter.
type fakeMaster struct {
	Master
	effect func(what any)
}

func (m *fakeMaster) Snapshot() rollout.Snapshot { return rollout.Snapshot{} }
func (m *fakeMaster) Ousted() bool               { return false }
func (m *fakeMaster) Effect(what any)            { m.effect(what) }

// noContain has no cgroups.
type noContain struct{ Containment }

func (noContain) Cgroup() string    { return "" }
func (noContain) Cgroups() []string { return nil }

// sourced is a configuration with a text of its own.
func sourced(t *testing.T, n int) *config.Config {
	t.Helper()
	cfg, err := sourceOf(fmt.Appendf(nil, "service: test\nworker: {kind: socket-activation, command: [/bin/sleep, %q]}\nhealth: none\n", fmt.Sprint(n)))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func sourceOf(text []byte) (*config.Config, error) {
	env := []string{"PATH=/usr/bin:/bin"}
	return config.Parse("/etc/masterd/test.yaml", text, env, config.SystemHost(env))
}

// Whenever a master may die, all that live.json names is there: before it is
// written, between the writing and the dropping, and after.
func TestLiveNamesOnlyWhatIsThere(t *testing.T) {
	dir, master := t.TempDir(), &fakeMaster{}
	m := New(Options{
		Log: zap.NewNop(), RuntimeDir: dir, Workers: workers.New(workers.Options{Comparisons: compare.New()}), Blobs: blob.New(time.Now()),
		Master: master, Contain: noContain{},
		Generations: generations.New(generations.Options{}, &config.Config{}, ""),
	})
	m.boot = state.Boot()
	dies := func(when string) {
		t.Helper()
		l, err := state.LoadLive(dir, m.boot)
		if err == nil && l != nil {
			err = readConfigs(dir, l, sourceOf)
		}
		if err != nil {
			t.Errorf("a master that dies %s leaves what the next one cannot read: %v", when, err)
		}
	}
	between := 0
	master.effect = func(what any) {
		if what == (configsDropped{}) {
			between++
			dies("between writing and dropping")
		}
	}
	m.System.KeepLive = func(dir string, text []byte) error {
		dies("before the writing")
		defer dies("after the writing")
		return state.KeepLive(dir, text)
	}
	a, b, c := sourced(t, 1), sourced(t, 2), sourced(t, 3)
	runs := func(cfgs ...*config.Config) {
		t.Helper()
		m.Generations.Clear()
		distinct := map[string]bool{}
		for _, cfg := range cfgs {
			id := rollout.Generation(len(m.Generations.All()) + 1)
			m.Generations.Add(&workers.Generation{ID: id, Config: cfg, Version: version.Version{ID: "v"}})
			distinct[state.Digest(cfg.Source())], distinct[state.Digest(cfg.Base().Source())] = true, true
		}
		m.KeepLive()
		dies("afterwards")
		left, err := filepath.Glob(filepath.Join(dir, "config-*.yaml"))
		if err != nil || len(left) != len(distinct) {
			t.Errorf("%d configurations run and %d copies lie there: %v, %v", len(distinct), len(left), left, err)
		}
	}
	// One that an earlier master has left.
	if err := os.WriteFile(filepath.Join(dir, "config-"+strings.Repeat("0", 64)+".yaml"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	runs(a)
	runs(a, b)
	runs(b)
	runs(b, c)
	runs(c, c) // as many generations as copies, and one copy too many
	runs(a, a, b)
	runs(rolledBack(t, a, b), b)
	runs(rolledBack(t, a, b), rolledBack(t, b, a))
	runs()
	if between < 4 {
		t.Errorf("it was looked at %d times between writing and dropping", between)
	}
}

// rolledBack is what a version that was run with one configuration is run with, while
// another is the service's.
func rolledBack(t *testing.T, was, today *config.Config) *config.Config {
	t.Helper()
	cfg, note := today.For(config.Kept{Command: was.Worker.Command, Own: was.Own()})
	if note != "" || cfg.Base() != today {
		t.Fatal(note)
	}
	return cfg
}

// A generation of a kept version is taken over as it is run, and what it was made of is known
// again; a masterd that knows nothing of that reads the same. What is not there is told.
func TestConfigurationsThatAreLeft(t *testing.T) {
	dir := t.TempDir()
	was, today := sourced(t, 1), sourced(t, 2)
	was.Worker.Watchdog, was.Drain.Signal = time.Minute, "USR1"
	made := rolledBack(t, was, today)
	l := &state.Live{}
	for _, c := range []*config.Config{made, today} {
		digest := state.Digest(c.Source())
		if err := state.KeepConfig(dir, digest, c.Source()); err != nil {
			t.Fatal(err)
		}
		l.Configs = append(l.Configs, state.LiveConfig{Digest: digest, Program: c.Worker.Command[0]})
	}
	overridden := func(text []byte) (*config.Config, error) { // as the environment is today
		env := []string{"PATH=/usr/bin:/bin", "MASTERD_WORKER_WATCHDOG=7s"}
		return config.Parse("/etc/masterd/test.yaml", text, env, config.SystemHost(env))
	}
	from := left{dir, l, overridden}
	got, err := from.config(state.LiveGeneration{ID: 1, Config: 0, Base: 2})
	if err != nil {
		t.Fatal(err)
	}
	if changes := config.Diff(made, got); len(changes) > 0 || got.Worker.Watchdog != time.Minute || got.Base().Worker.Watchdog != 7*time.Second {
		t.Errorf("%v, made of %v", changes, config.Diff(today, got.Base()))
	}
	if got, err = from.config(state.LiveGeneration{ID: 1, Config: 1, Base: 2}); err != nil || got.Base() != got || len(config.Diff(today, got)) != 1 {
		t.Errorf("%v %v", config.Diff(today, got), err)
	}
	before := left{dir, l, sourceOf} // knows nothing of Base
	if got, err = before.config(state.LiveGeneration{ID: 1, Config: 0}); err != nil || len(config.Diff(made, got)) > 0 {
		t.Errorf("%v %v", config.Diff(made, got), err)
	}
	for _, g := range []state.LiveGeneration{{Config: 0, Base: 3}, {Config: 0, Base: -1}, {Config: 2, Base: 2}, {Config: -1}} {
		if _, err := from.config(g); err == nil {
			t.Errorf("%+v is there", g)
		}
	}
	if err := os.Remove(filepath.Join(dir, "config-"+l.Configs[1].Digest+".yaml")); err != nil {
		t.Fatal(err)
	}
	if _, err := from.config(state.LiveGeneration{Config: 0, Base: 2}); err == nil {
		t.Error("what it was made of is gone, and nobody says so")
	}
}

// The proof of another masterd reads while this one writes.
func TestProvesBesideOneThatWrites(t *testing.T) {
	cfg := &config.Config{RuntimeDir: t.TempDir(), StateDir: t.TempDir()}
	a, b := sourced(t, 1), sourced(t, 2)
	write := func(cfgs ...*config.Config) {
		t.Helper()
		l := state.Live{Boot: state.Boot()}
		for _, c := range cfgs {
			digest := state.Digest(c.Source())
			l.Generations = append(l.Generations, state.LiveGeneration{ID: uint64(len(l.Generations) + 1), Config: len(l.Configs)})
			l.Configs = append(l.Configs, state.LiveConfig{Digest: digest})
			if err := state.KeepConfig(cfg.RuntimeDir, digest, c.Source()); err != nil {
				t.Fatal(err)
			}
		}
		text, err := l.Encode()
		if err == nil {
			err = state.KeepLive(cfg.RuntimeDir, text)
		}
		if err == nil {
			err = state.DropConfigs(cfg.RuntimeDir, l.Configs)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	write(b, a)
	if err := Prove(cfg, sourceOf); err != nil {
		t.Error(err)
	}
	moves := 0
	if err := Prove(cfg, func(text []byte) (*config.Config, error) {
		if moves++; moves == 1 { // it is about to read a
			write(b)
		}
		return sourceOf(text)
	}); err != nil {
		t.Error(err)
	}
	// It would not be taken over if it has what others could swap.
	swapped := *cfg
	swapped.Listeners = []config.Listener{{Name: "http", Network: "unix", Path: filepath.Join(t.TempDir(), "s")}}
	if err := os.Chmod(filepath.Dir(swapped.Listeners[0].Path), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := Prove(&swapped, sourceOf); err == nil || !strings.Contains(err.Error(), "others can rename what is in") {
		t.Errorf("it says %v", err)
	}
	// One that is gone for good is said.
	if err := os.Remove(filepath.Join(cfg.RuntimeDir, "config-"+state.Digest(b.Source())+".yaml")); err != nil {
		t.Fatal(err)
	}
	if err := Prove(cfg, sourceOf); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("it says %v", err)
	}
}

// The salt of a canary is that of the rollout that was under way.
func TestTheSaltOfWhatWasLeft(t *testing.T) {
	for want, left := range map[uint32]*state.Live{
		0: nil,
		7: {Machine: rollout.Snapshot{Try: &rollout.SnapAttempt{ID: 7, Settings: rollout.Settings{Sticky: true}}}},
	} {
		if got := (&Takeover{left: left}).Sticky(); got != want {
			t.Errorf("%d, want %d", got, want)
		}
	}
	none := &state.Live{Machine: rollout.Snapshot{Try: &rollout.SnapAttempt{ID: 7}}}
	if got := (&Takeover{left: none}).Sticky(); got != 0 {
		t.Errorf("%d where each connection draws", got)
	}
}
