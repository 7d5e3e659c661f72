package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/masterd/masterd/pkg/master/atomicfile"
	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/trust"
)

const (
	// lookPrefix begins the name of the directory of a first look, and lookFile is the
	// configuration in it. Its other two are the runtime and the state directory.
	lookPrefix = "masterd-look-"
	lookFile   = "masterd.yaml"
	lookRun    = "run"
	lookState  = "state"
)

// firstLook runs a program without a configuration file: one is made, in a directory that
// goes when the service has stopped.
func (a *app) firstLook(ctx context.Context, command []string, o drafting, strict bool) error {
	if a.config != "" {
		return exitf(exitUsage, "--config names a configuration, and a command after -- is run without one; leave one of them out")
	}
	dir, err := a.lookDirectory()
	if err != nil {
		return exitf(exitFailed, "making a directory for this run: %v", err)
	}
	defer endLook(filepath.Join(dir, lookFile)) // also if it has not come to run
	return a.lookIn(ctx, dir, command, o, strict)
}

func (a *app) lookIn(ctx context.Context, dir string, command []string, o drafting, strict bool) error {
	o.first, o.taken = true, map[string]bool{}
	o.file, o.runtime, o.state = filepath.Join(dir, lookFile), filepath.Join(dir, lookRun), filepath.Join(dir, lookState)
	for _, f := range a.find(ctx) {
		o.taken[f.name] = true
	}
	d, err := a.draft(ctx, command, o)
	if err != nil {
		return err
	}
	text := d.Text()
	if _, err := config.Parse(o.file, []byte(text), a.environ(), config.SystemHost(a.environ())); err != nil {
		return exitf(exitUsage, "it cannot be run without a configuration of its own: %v", err)
	}
	if err := writeNew(o.file, text); err != nil {
		return exitf(exitFailed, "writing the configuration of this run: %v", err)
	}
	where := "without a listener"
	if len(d.Listeners) > 0 {
		where = "on " + urlOf(d.Listeners[0].Address)
	}
	words := make([]string, len(command))
	for i, w := range command {
		words[i] = shellWord(clean(w))
	}
	fmt.Fprintf(a.err, `masterd: a first look: service %[1]s %[2]s, %[3]s; Ctrl-C stops it
masterd: in another terminal: masterd reload --service %[1]s
masterd:                      masterd status --service %[1]s
masterd: nothing of it stays when it has stopped (until then %[4]s); to keep a configuration: masterd init -- %[5]s
`, d.Service, clean(where), d.Program.Kind, clean(dir), strings.Join(words, " "))
	if d.Root && d.User == "" {
		fmt.Fprintln(a.err, "masterd: its workers run as root; a user without rights is the better choice, also for a first look")
	}
	a.config = o.file
	return a.run(ctx, strict)
}

// lookDirectory makes one. Workers of another user must be able to enter it.
func (a *app) lookDirectory() (dir string, err error) {
	for _, base := range []string{a.env("TMPDIR"), "/tmp"} {
		if !filepath.IsAbs(base) || len(base) > config.MaxRuntimeDir-len(lookPrefix)-20 {
			continue // paths of sockets are short
		}
		if dir, err = os.MkdirTemp(base, lookPrefix); err == nil {
			return dir, os.Chmod(dir, 0o711)
		}
	}
	return "", err
}

// endLook removes the directory of a first look whose service has stopped: what masterd has
// made there, and nothing else. Of other configurations nothing is removed.
func endLook(file string) {
	dir := filepath.Dir(file)
	if filepath.Base(file) != lookFile || !strings.HasPrefix(filepath.Base(dir), lookPrefix) {
		return
	}
	text, err := atomicfile.Read(file, maxConfig)
	if err == nil {
		_, runtime, _ := config.Glean(file, text)
		if runtime != filepath.Join(dir, lookRun) {
			return // somebody has made it something else
		}
	}
	if info, err := os.Lstat(dir); err != nil || !info.IsDir() || trust.Owner(info) != os.Geteuid() {
		return
	}
	for _, name := range []string{lookRun, lookState} {
		_ = os.RemoveAll(filepath.Join(dir, name))
	}
	_ = os.Remove(file)
	_ = os.Remove(dir)
}
