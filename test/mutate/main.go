// Command mutate plants the mistakes listed in testdata/mutations.list into a
// copy of package rollout, one at a time, and demands that its tests notice
// each. A mistake that nobody notices is a hole in the tests.
//
//	go run ./test/mutate          from the module's root
//	go run ./test/mutate beats    only those whose title has the word
package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

const (
	source   = "pkg/master/rollout"
	simSteps = "-sim.steps=400000"
	atOnce   = 2 // copies under test at one time
)

// layers are run apart, so that the list shows what each of them notices.
var layers = []struct {
	name string
	args []string
}{
	{"stories", []string{"test", "-count=1", "-timeout=2m", "-run=TestStories|TestImports", "."}},
	{"simulation", []string{"test", "-count=1", "-timeout=2m", "-run=TestSimulation", ".", simSteps}},
}

type mutation struct {
	title, file, old, new string
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "mutate:", err)
		os.Exit(1)
	}
}

func run() error {
	list, err := read(filepath.Join(source, "testdata", "mutations.list"))
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
	clean, err := try(mutation{title: "none"})
	if err != nil {
		return err
	}
	if len(clean) > 0 {
		return fmt.Errorf("the tests fail without any mutation: %s", strings.Join(clean, ", "))
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

// read parses the list: "## title", the file, and what is replaced by what.
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
	if err := os.CopyFS(dir, os.DirFS(source)); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module rollout\n\ngo 1.26\n"), 0o644); err != nil {
		return nil, err
	}
	if m.file != "" {
		if err := m.plant(dir); err != nil {
			return nil, err
		}
	}
	if out, err := command(dir, "vet", ".").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("it does not compile: %s", out)
	}
	var by []string
	for _, l := range layers {
		if err := command(dir, l.args...).Run(); err != nil {
			by = append(by, l.name)
		}
	}
	return by, nil
}

// plant makes the mistake in the machine of this directory.
func (m mutation) plant(dir string) error {
	name := filepath.Join(dir, m.file)
	src, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	if n := bytes.Count(src, []byte(m.old)); n != 1 {
		return fmt.Errorf("what it replaces is %d times in %s, want once", n, m.file)
	}
	return os.WriteFile(name, bytes.Replace(src, []byte(m.old), []byte(m.new), 1), 0o644)
}

func command(dir string, args ...string) *exec.Cmd {
	c := exec.Command("go", args...)
	c.Dir = dir
	c.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=")
	return c
}
