package config

import (
	"slices"
	"strings"
	"testing"
)

func TestKeysAreComplete(t *testing.T) {
	s := newSchema()
	c := &Config{Listeners: make([]Listener, 1), Rollout: Rollout{Canary: Canary{Steps: make([]Step, 1)}, Analysis: Analysis{Measures: make([]Measure, 1)}}, Health: Health{HTTP: &HTTPCheck{}, TCP: &TCPCheck{}}}
	byPath := map[string]field{}
	for _, f := range s.fields(c) {
		byPath[strings.Replace(f.path, "[0]", "[]", 1)] = f
	}
	seen, vars := map[string]bool{}, map[string]string{}
	for _, k := range s.keys {
		if seen[k.Path] {
			t.Errorf("%s is there twice", k.Path)
		}
		seen[k.Path] = true
		if p := k.parent(); p != "" && !seen[p] {
			t.Errorf("%s comes before its section", k.Path)
		}
		if !strings.HasSuffix(k.Meaning, ".") && !strings.HasSuffix(k.Meaning, ".)") || len(k.Meaning) < 10 {
			t.Errorf("%s: the meaning is no sentence: %s", k.Path, k.Meaning)
		}
		if k.Since == "" {
			t.Errorf("%s: since when?", k.Path)
		}
		if k.Env != "" {
			if other := vars[k.Env]; other != "" {
				t.Errorf("%s and %s share %s", k.Path, other, k.Env)
			}
			if slices.Contains(notKeys(), k.Env) {
				t.Errorf("%s is of another meaning", k.Env)
			}
			vars[k.Env] = k.Path
		}
		f, ok := byPath[k.Path]
		switch {
		case k.Type == Section || k.Type == List:
			continue
		case !ok || f.ptr == nil:
			t.Errorf("%s has no field", k.Path)
			continue
		}
		if k.scalar() && !(k.Default == "" && strings.HasPrefix(k.Path, stepsPath)) { // its zero is no value
			if err := assign(f, k.Default); err != nil {
				t.Errorf("%s: the default is refused: %v", k.Path, err)
			}
		}
		for _, bound := range []string{k.Min, k.Max} {
			if bound == "" {
				continue
			}
			if err := assign(f, bound); err != nil {
				t.Errorf("%s: the bound %s is refused: %v", k.Path, bound, err)
			}
		}
	}
	for path := range pointers(c, "") {
		if !seen[path] {
			t.Errorf("the field of %s has no key", path)
		}
	}
}

// Everything that has bounds has both, so that nothing is without a limit.
func TestNumbersAreBounded(t *testing.T) {
	for _, k := range Keys() {
		switch k.Type {
		case Integer, Duration, Size, Rate, Percent:
			if k.Min == "" || k.Max == "" {
				t.Errorf("%s has no bounds", k.Path)
			}
		}
	}
}

func TestNearest(t *testing.T) {
	words := []string{"rollout", "restart", "worker", "stop_timeout", "service"}
	for word, want := range map[string]string{
		"rolout": "rollout", "Rollout": "rollout", "orllout": "rollout", "stop-timeout": "stop_timeout", "stoptimeout": "stop_timeout",
		"workers": "worker", "wroker": "worker", "xyzzy": "", "": "", "s": "", strings.Repeat("worker", 100): "",
	} {
		if got := nearest(word, words); got != want {
			t.Errorf("nearest(%q) = %q, want %q", word, got, want)
		}
	}
}
