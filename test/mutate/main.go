// Command mutate plants the mistakes that a package lists in its
// testdata/mutations.list, one at a time, beside its source, and demands that
// its tests notice each. A mistake that nobody notices is a hole in the tests.
//
//	go run ./test/mutate          from the module's root
//	go run ./test/mutate beats    only those whose title has the word
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

const (
	simSteps = "-sim.steps=400000"
	atOnce   = 2 // packages under test at one time
)

// layer are tests that are run apart, so that the list shows what each of them notices.
type layer struct {
	name string
	args []string // of go test, after the package
}

// packages are those with a list, and their tests.
var packages = []struct {
	dir    string
	layers []layer
}{
	{"pkg/master/rollout", []layer{
		{"stories", []string{"-run=TestStories|TestImports"}},
		{"simulation", []string{"-run=TestSimulation", simSteps}},
	}},
	{"pkg/master/counters", []layer{{"tests", nil}}},
	{"pkg/master/compare", []layer{{"tests", nil}}},
}

type mutation struct {
	title, file, old, new string
	dir                   string // of the package
	layers                []layer
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "mutate:", err)
		os.Exit(1)
	}
}

func run() error {
	list, err := all(".")
	if err != nil {
		return err
	}
	if len(os.Args) > 1 {
		var some []mutation
		for _, m := range list {
			if strings.Contains(m.title, os.Args[1]) {
				some = append(some, m)
			}
		}
		list = some
	}
	began := time.Now()
	for _, p := range packages {
		clean, err := try(mutation{title: "none", dir: p.dir, layers: p.layers})
		if err != nil {
			return err
		}
		if len(clean) > 0 {
			return fmt.Errorf("the tests of %s fail without any mutation: %s", p.dir, strings.Join(clean, ", "))
		}
	}
	type outcome struct {
		by  []string
		err error
	}
	outcomes := make([]outcome, len(list))
	var wg sync.WaitGroup
	tokens := make(chan struct{}, atOnce)
	for i, m := range list {
		wg.Add(1)
		tokens <- struct{}{}
		go func() {
			defer func() { <-tokens; wg.Done() }()
			outcomes[i].by, outcomes[i].err = try(m)
		}()
	}
	wg.Wait()
	missed := 0
	for i, m := range list {
		switch o := outcomes[i]; {
		case o.err != nil:
			missed++
			fmt.Printf("BROKEN  %s: %v\n", m.title, o.err)
		case len(o.by) == 0:
			missed++
			fmt.Printf("MISSED  %s\n", m.title)
		default:
			fmt.Printf("caught  %-62s by %s\n", m.title, strings.Join(o.by, " and "))
		}
	}
	fmt.Printf("%d of %d mutations caught in %s\n", len(list)-missed, len(list), time.Since(began).Round(time.Second))
	if missed > 0 {
		return fmt.Errorf("%d not caught", missed)
	}
	return nil
}

// all are the mutations of all packages of the module whose root this is.
func all(root string) (list []mutation, err error) {
	for _, p := range packages {
		of, err := read(filepath.Join(root, p.dir, "testdata", "mutations.list"))
		if err != nil {
			return nil, err
		}
		for i := range of {
			of[i].dir, of[i].layers = p.dir, p.layers
		}
		list = append(list, of...)
	}
	return list, nil
}

// read parses a list: "## title", the file, and what is replaced by what.
func read(name string) ([]mutation, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	var list []mutation
	for i, part := range strings.Split(string(text), "\n## ") {
		if i == 0 {
			continue // the head
		}
		title, rest, _ := strings.Cut(part, "\n")
		file, rest, _ := strings.Cut(rest, "\n<<<\n")
		old, rest, ok := strings.Cut(rest, "\n===")
		repl, _, ok2 := strings.Cut(rest, "\n>>>")
		if !ok || !ok2 {
			return nil, fmt.Errorf("%s: mutation %q is not whole", name, title)
		}
		list = append(list, mutation{title: title, file: strings.TrimSpace(file), old: old, new: strings.TrimPrefix(repl, "\n")})
	}
	return list, nil
}

// try returns the layers that noticed.
func try(m mutation) ([]string, error) {
	dir, err := os.MkdirTemp("", "mutate-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	overlay, err := m.plant(".", dir)
	if err != nil {
		return nil, err
	}
	if out, err := command("vet", overlay, m.dir).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("it does not compile: %s", out)
	}
	var by []string
	for _, l := range m.layers {
		if err := command("test", overlay, m.dir, append([]string{"-count=1", "-timeout=2m"}, l.args...)...).Run(); err != nil {
			by = append(by, l.name)
		}
	}
	return by, nil
}

// plant makes the mistake in a file in dir, and returns what has go take that for the one below
// root.
func (m mutation) plant(root, dir string) (overlay string, err error) {
	replace := map[string]string{}
	if m.file != "" {
		name, err := filepath.Abs(filepath.Join(root, m.dir, m.file))
		if err != nil {
			return "", err
		}
		src, err := os.ReadFile(name)
		if err != nil {
			return "", err
		}
		if n := bytes.Count(src, []byte(m.old)); n != 1 {
			return "", fmt.Errorf("what it replaces is %d times in %s, want once", n, m.file)
		}
		replace[name] = filepath.Join(dir, m.file)
		if err := os.WriteFile(replace[name], bytes.Replace(src, []byte(m.old), []byte(m.new), 1), 0o644); err != nil {
			return "", err
		}
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	overlay = filepath.Join(dir, "overlay.json")
	return overlay, os.WriteFile(overlay, text, 0o644)
}

// command is one of go's for a package; args are behind it, as those of its tests must be.
func command(verb, overlay, dir string, args ...string) *exec.Cmd {
	c := exec.Command("go", append([]string{verb, "-overlay=" + overlay, "./" + dir}, args...)...)
	c.Env = append(os.Environ(), "GOFLAGS=")
	return c
}
