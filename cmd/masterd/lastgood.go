package main

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/masterd/masterd/pkg/master/atomicfile"
	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/trust"
)

const (
	// maxConfig is the longest configuration file that is kept, in bytes.
	maxConfig = 1 << 20
	// maxCopies is how many copies one state directory has: of so many paths that
	// its service was started with.
	maxCopies = 4
	// maxLooked is how many names of a directory are looked at.
	maxLooked  = 1024
	copyPrefix = "last-good-"
)

// lastGood keeps a copy of the configuration that was last taken into force, in
// state_dir, named after the configuration file's path. Where state_dir is only a
// configuration that can be read would tell for sure, so it is looked for.
type lastGood struct {
	file, name string
	base       string // of the state directories of all of the user's services
	env        []string
}

func newLastGood(file string, env []string) lastGood {
	sum := sha256.Sum256([]byte(file))
	return lastGood{file, copyPrefix + hex.EncodeToString(sum[:8]) + ".yaml", config.SystemHost(env).StateBase(), env}
}

func (l lastGood) save(c *config.Config) error {
	if err := atomicfile.Write(filepath.Join(c.StateDir, l.name), c.Source(), 0o600); err != nil {
		return fmt.Errorf("keeping the last good configuration: %w", err)
	}
	copies := copiesIn(c.StateDir)
	slices.SortFunc(copies, func(x, y kept) int { return cmp.Compare(y.at.UnixNano(), x.at.UnixNano()) })
	for i, k := range copies {
		if i >= maxCopies && filepath.Base(k.path) != l.name {
			_ = os.Remove(k.path)
		}
	}
	return nil
}

// load reads it as if it lay where the configuration file is: paths in it are
// relative to that. Of several the newest one counts.
func (l lastGood) load(env []string) (*config.Config, error) {
	var newest kept
	dirs := l.dirs()
	for _, dir := range dirs {
		if k, ok := trustedCopy(filepath.Join(dir, l.name)); ok && k.at.After(newest.at) {
			newest = k
		}
	}
	if newest.path == "" {
		return nil, fmt.Errorf("no last good configuration of %s was found in %s: %w", l.file, strings.Join(dirs, ", "), fs.ErrNotExist)
	}
	b, err := atomicfile.Read(newest.path, maxConfig)
	if err != nil {
		return nil, err
	}
	c, err := config.Parse(l.file, b, env, config.SystemHost(env))
	if err != nil {
		return nil, fmt.Errorf("the last good configuration, %s: %w", newest.path, err)
	}
	return c, nil
}

// dirs are where it can be: the directory that the environment or systemd gives
// the unit, what the file seems to say, and those of all of the user's services.
func (l lastGood) dirs() (dirs []string) {
	add := func(dir string) {
		if filepath.IsAbs(dir) && !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	add(l.variable("MASTERD_STATE_DIR"))
	if text, err := atomicfile.Read(realPath(l.file), maxConfig); err == nil {
		service, _, dir := config.Glean(l.file, text)
		add(dir)
		if service != "" {
			add(filepath.Join(l.base, service))
		}
	}
	for _, dir := range filepath.SplitList(l.variable("STATE_DIRECTORY")) {
		add(dir)
	}
	for _, name := range namesIn(l.base) {
		if _, err := os.Lstat(filepath.Join(l.base, name, l.name)); err == nil && !strings.HasPrefix(name, ".") {
			add(filepath.Join(l.base, name))
		}
	}
	return dirs
}

func (l lastGood) variable(name string) (value string) {
	for _, kv := range l.env {
		if v, ok := strings.CutPrefix(kv, name+"="); ok {
			value = v
		}
	}
	return value
}

// kept is a copy.
type kept struct {
	path string
	at   time.Time
}

// copiesIn are all copies in a directory.
func copiesIn(dir string) (list []kept) {
	for _, name := range namesIn(dir) {
		if !strings.HasPrefix(name, copyPrefix) || !strings.HasSuffix(name, ".yaml") {
			continue
		}
		path := filepath.Join(dir, name)
		if info, err := os.Lstat(path); err == nil && info.Mode().IsRegular() {
			list = append(list, kept{path, info.ModTime()})
		}
	}
	return list
}

// trustedCopy is a copy that nobody but root or this user can have put there: it
// says what is run, and as whom.
func trustedCopy(path string) (kept, bool) {
	info, err := os.Lstat(path)
	if err != nil || !info.Mode().IsRegular() || !trust.Own().Has(trust.Owner(info)) {
		return kept{}, false
	}
	dir, err := trust.Own().Check(filepath.Dir(path))
	if err != nil || !trust.Own().Has(trust.Owner(dir)) {
		return kept{}, false
	}
	return kept{path, info.ModTime()}, true
}

// namesIn are the names in a directory, as many as are looked at.
func namesIn(dir string) []string {
	d, err := os.Open(dir)
	if err != nil {
		return nil
	}
	defer d.Close()
	names, _ := d.Readdirnames(maxLooked) // the error is the end
	return names
}
