package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/master/config"
)

// copies runs a story with a home directory of its own for all that is kept.
type copies struct {
	t    *testing.T
	dir  string
	base string // of state directories
}

// lastGood is that of a file, with the directories of this story.
func (c *copies) lastGood(file string) lastGood {
	l := newLastGood(file, nil)
	l.base = c.base
	return l
}

func newCopies(t *testing.T) *copies {
	t.Helper()
	dir := t.TempDir()
	return &copies{t: t, dir: dir, base: filepath.Join(dir, "masterd")}
}

func text(service, extra string) string {
	return fmt.Sprintf("service: %s\nlisteners: []\nworker: {command: [/bin/true]}\n%s", service, extra)
}

// keep takes a configuration into force.
func (c *copies) keep(file, text string) *config.Config {
	c.t.Helper()
	cfg, err := config.Parse(file, []byte(text), nil, config.Host{UID: 1000, State: c.dir, Temp: c.dir})
	if err == nil {
		err = errors.Join(os.MkdirAll(cfg.StateDir, 0o711), c.lastGood(file).save(cfg))
	}
	if err != nil {
		c.t.Fatal(err)
	}
	return cfg
}

// all are all copies below the directory.
func (c *copies) all() (paths []string) {
	c.t.Helper()
	err := filepath.WalkDir(c.dir, func(path string, _ os.DirEntry, err error) error {
		if strings.HasPrefix(filepath.Base(path), copyPrefix) {
			paths = append(paths, path)
		}
		return err
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return paths
}

// It lies in state_dir, and is found though the file is broken.
func TestLastGoodLiesInTheStateDirectory(t *testing.T) {
	for name, extra := range map[string]string{"by default": "", "set": "state_dir: $DIR/elsewhere/state\n"} {
		for broken, change := range map[string]func(string) string{
			"a typo":  func(s string) string { return "rolout: {}\n" + s },
			"no YAML": func(s string) string { return s + "}{\n" },
			"anew": func(s string) string {
				if extra == "" {
					return "listeners: 12\n" // not even the service is named
				}
				return "state_dir: $DIR/elsewhere/state\n"
			},
		} {
			c := newCopies(t)
			set := strings.ReplaceAll(extra, "$DIR", c.dir)
			file := filepath.Join(c.dir, "shop.yaml")
			cfg := c.keep(file, text("shop", set))
			if got := c.all(); len(got) != 1 || filepath.Dir(got[0]) != cfg.StateDir {
				t.Errorf("%s: kept in %v", name, got)
			}
			if err := os.WriteFile(file, []byte(strings.ReplaceAll(change(text("shop", set)), "$DIR", c.dir)), 0o644); err != nil {
				t.Fatal(err)
			}
			got, err := c.lastGood(file).load(nil)
			if err != nil || got.Service != "shop" {
				t.Errorf("%s, %s: %v", name, broken, err)
			}
			// It is that file's alone.
			if _, err := c.lastGood(file + "x").load(nil); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s, %s: another file has it too", name, broken)
			}
		}
	}
}

// One state directory has few, and the newest counts.
func TestLastGoodsAreBounded(t *testing.T) {
	c := newCopies(t)
	state := filepath.Join(c.base, "shop")
	for i := range 3 * maxCopies {
		file := filepath.Join(c.dir, fmt.Sprintf("%d.yaml", i))
		c.keep(file, text("shop", ""))
		then := time.Now().Add(time.Duration(i-100) * time.Second)
		if err := os.Chtimes(filepath.Join(state, c.lastGood(file).name), then, then); err != nil {
			t.Fatal(err)
		}
	}
	if got := c.all(); len(got) > maxCopies+1 {
		t.Errorf("%d copies", len(got))
	}
}
