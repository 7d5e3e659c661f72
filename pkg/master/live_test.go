package master

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/rollout"
	"github.com/masterd/masterd/pkg/master/state"
	"github.com/masterd/masterd/pkg/master/version"
)

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
	w := newWorld(t)
	cfg := testConfig()
	cfg.RuntimeDir, cfg.StateDir = t.TempDir(), t.TempDir()
	m := w.master(cfg)
	m.boot = state.Boot()
	dies := func(when string) {
		t.Helper()
		l, err := state.LoadLive(cfg.RuntimeDir, m.boot)
		if err == nil && l != nil {
			err = readConfigs(cfg.RuntimeDir, l, sourceOf)
		}
		if err != nil {
			t.Errorf("a master that dies %s leaves what the next one cannot read: %v", when, err)
		}
	}
	between := 0
	m.opt.Effect = func(what string) {
		if strings.HasSuffix(what, "configsDropped") {
			between++
			dies("between writing and dropping")
		}
	}
	m.system.keepLive = func(dir string, text []byte) error {
		dies("before the writing")
		defer dies("after the writing")
		return state.KeepLive(dir, text)
	}
	a, b, c := sourced(t, 1), sourced(t, 2), sourced(t, 3)
	runs := func(cfgs ...*config.Config) {
		t.Helper()
		clear(m.generations)
		distinct := map[string]bool{}
		for _, cfg := range cfgs {
			id := rollout.Generation(len(m.generations) + 1)
			m.generations[id] = &generation{id: id, cfg: cfg, version: version.Version{ID: "v"}}
			distinct[state.Digest(cfg.Source())] = true
		}
		m.keepLive()
		dies("afterwards")
		left, err := filepath.Glob(filepath.Join(cfg.RuntimeDir, "config-*.yaml"))
		if err != nil || len(left) != len(distinct) {
			t.Errorf("%d configurations run and %d copies lie there: %v, %v", len(distinct), len(left), left, err)
		}
	}
	// One that an earlier master has left.
	if err := os.WriteFile(filepath.Join(cfg.RuntimeDir, "config-"+strings.Repeat("0", 64)+".yaml"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	runs(a)
	runs(a, b)
	runs(b)
	runs(b, c)
	runs(c, c) // as many generations as copies, and one copy too many
	runs(a, a, b)
	runs()
	if between < 4 {
		t.Errorf("it was looked at %d times between writing and dropping", between)
	}
}

// The proof of another masterd reads while this one writes.
func TestProvesBesideOneThatWrites(t *testing.T) {
	cfg := testConfig()
	cfg.RuntimeDir, cfg.StateDir = t.TempDir(), t.TempDir()
	a, b := sourced(t, 1), sourced(t, 2)
	write := func(cfgs ...*config.Config) {
		t.Helper()
		l := state.Live{Boot: state.Boot()}
		for _, c := range cfgs {
			digest := state.Digest(c.Source())
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
