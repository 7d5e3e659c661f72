package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// maxFile is the size of the greatest configuration file, in bytes.
const maxFile = 1 << 20

// Load reads a configuration file and the MASTERD_… variables in env (a list
// as from os.Environ) that override its scalars. Defaults are filled in, and
// the whole is validated against this machine: users, groups and programs
// named must exist. The error is a [*Problems] with all that is wrong.
func Load(path string, env []string) (*Config, error) {
	data, err := readFile(path)
	if err != nil {
		return nil, &Problems{Err: err, List: []Problem{{File: path, Text: unreadable(err)}}}
	}
	file, err := filepath.Abs(path)
	if err != nil {
		return nil, &Problems{Err: err, List: []Problem{{File: path, Text: "the current directory is gone; give the file's absolute path"}}}
	}
	return Parse(file, data, env, SystemHost(env))
}

// Parse is [Load] without a machine: name, which should be absolute, stands
// for the file and is what relative paths are relative to; host answers what
// is asked of the machine. It depends on nothing but its arguments.
func Parse(name string, data []byte, env []string, host Host) (*Config, error) {
	s := newSchema()
	doc := readDocument(name, data, s)
	over := readEnvironment(env, s)
	b := &builder{
		schema: s, host: host, doc: doc, over: over,
		dir:    filepath.Dir(name),
		values: merge(s, doc, over), filled: map[string]string{},
	}
	c := b.build()
	if p := b.problems(); len(p.List) > 0 {
		return nil, p.sorted()
	}
	c.source = source{text: data, lines: doc.lines(), vars: over.names(), filled: b.filled, warnings: slices.Concat(over.warnings, c.shortBake(), c.longWait(), c.unevenCanary(), c.hastyCanary(), c.unjudgedCanary(), b.unexpanded(c))}
	return c, nil
}

// shortBake warns of a bake that is over before failing checks count. It goes on
// until every worker passes one then, so it will not take as long as it says.
func (c *Config) shortBake() []string {
	h, a := c.Health, c.Health.Active
	needs := a.Interval * time.Duration(a.Failures)
	if c.Rollout.Bake == 0 || c.Rollout.Bake >= needs || h.HTTP == nil && h.TCP == nil && len(h.Command) == 0 {
		return nil
	}
	return []string{fmt.Sprintf("rollout.bake (%s) is shorter than health.active.interval × health.active.failures (%s): "+
		"a version whose checks begin to fail is rolled back only after the time of the bake; make the bake longer, or check more often",
		c.Rollout.Bake, needs)}
}

// longWait warns where one version makes way for the next, and clients wait for it longer
// than they may.
func (c *Config) longWait() []string {
	if c.Rollout.Surge != "replace" || c.Drain.Timeout != 0 && c.Drain.Timeout <= c.Unavailable.After {
		return nil
	}
	return []string{fmt.Sprintf("drain.timeout (%s) is longer than unavailable.after (%s): with rollout.surge: replace clients "+
		"wait while the version before drains, and may be answered as if nobody served; make the drain shorter, or let them wait longer",
		c.Drain.Timeout, c.Unavailable.After)}
}

// unevenCanary warns where kept connections do not follow the weights.
func (c *Config) unevenCanary() []string {
	why := "worker.kind: " + c.Worker.Kind
	switch {
	case len(c.Rollout.Canary.Steps) == 0 || c.Worker.Kind == KindSDK && c.Drain.Handover:
		return nil
	case c.Worker.Kind == KindSDK:
		why = "drain.handover: false"
	}
	return []string{fmt.Sprintf("rollout.canary.steps: with %s only new connections are split, and those that clients keep "+
		"stay where they are; make the steps longer than clients keep connections", why)}
}

// source is where the values of a Config came from.
type source struct {
	text     []byte
	base     *Config           // what it was made of, see For; nil: it was read as it is
	lines    map[string]int    // of the file, by path
	vars     map[string]string // variables that override, by path
	filled   map[string]string // what filled in a value that was not given, by path
	warnings []string
}

// Source is the file's content as it was parsed, for keeping the last good
// configuration, or what [Config.For] has made in its place. It may hold secrets. The caller must not change it.
func (c *Config) Source() []byte { return c.source.text }

// Warnings tells what is probably a mistake but not wrong, one sentence each:
// MASTERD_… variables that name no key, variables in values.
func (c *Config) Warnings() []string { return c.source.warnings }

// readFile reads a regular file of a bounded size. Anything else (a pipe, a
// device) might never end, or hold up a reload.
func readFile(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAll(f)
}

func readAll(f *os.File) ([]byte, error) {
	st, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case st.IsDir():
		return nil, syscall.EISDIR
	case !st.Mode().IsRegular():
		return nil, errIrregular
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = errTooLarge
	}
	return data, err
}

var (
	errIrregular = errors.New("not a regular file")
	errTooLarge  = fmt.Errorf("larger than %d KiB", maxFile>>10)
)

// unreadable says what is the matter with a file and what to do.
func unreadable(err error) string {
	switch {
	case errors.Is(err, os.ErrNotExist):
		return "there is no such file; name another with --config or MASTERD_CONFIG"
	case errors.Is(err, os.ErrPermission):
		return "it may not be read by this user; change its permissions, or run as another user"
	case errors.Is(err, syscall.EISDIR):
		return "it is a directory; name the file in it"
	case errors.Is(err, errIrregular), errors.Is(err, errTooLarge):
		return "it is " + err.Error() + "; a configuration is a small file of YAML"
	}
	return "it cannot be read: " + err.Error()
}
