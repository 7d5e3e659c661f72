package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/config"
)

const (
	// adminSocket is the name of the admin socket in a runtime directory.
	adminSocket = "admin.sock"
	// aliveTimeout bounds the knock at each socket that was found.
	aliveTimeout = time.Second
	// maxFound is how many services are looked at.
	maxFound = 256
)

// found is a service with an admin socket.
type found struct {
	name   string
	client *api.Client
	err    error // why it cannot be talked to; nil: it is alive
}

// connect finds the master that is meant. By name, with --service; else the
// one of the configuration file, named or default; else the only one there is.
//
// A file is believed in two ways: by the runtime directory in it, and by the
// masters themselves, who know which file they were started with. So a file
// that was broken since, or is read by another user than its master, does not
// keep anybody from asking for the status or for a rollback.
func (a *app) connect(ctx context.Context) (*api.Client, error) {
	if a.service != "" {
		return a.byName(ctx)
	}
	file, explicit := a.configFile()
	if file == "" {
		return a.only(ctx)
	}
	client, err := a.byFile(ctx, file)
	switch {
	case err == nil:
		return client, nil
	case explicit || a.uid == 0:
		// Root's default service is down. Taking another one for it, because it
		// happens to be alone, would stop the wrong service one day.
		return nil, err
	}
	return a.only(ctx)
}

// configFile is the configuration file that is meant, absolute; empty: none is
// named and the default one does not exist.
func (a *app) configFile() (file string, explicit bool) {
	file, explicit = a.config, true
	if file == "" {
		file = a.env("MASTERD_CONFIG")
	}
	if file == "" {
		if _, err := os.Stat(a.defaultFile); err != nil {
			return "", false
		}
		file, explicit = a.defaultFile, false
	}
	if abs, err := filepath.Abs(file); err == nil {
		file = abs
	}
	return file, explicit
}

// byName finds the service that --service names.
func (a *app) byName(ctx context.Context) (*api.Client, error) {
	if strings.ContainsRune(a.service, filepath.Separator) || a.service == "." || a.service == ".." {
		return nil, exitf(exitUsage, "--service wants a service's name, not the path %q", a.service)
	}
	var fault error
	for _, dir := range a.bases() {
		client := a.client(filepath.Join(dir, a.service))
		err := alive(ctx, client)
		if err == nil {
			return client, nil
		}
		if fault == nil || !isNoMaster(err) {
			fault = err
		}
	}
	if fault == nil || isNoMaster(fault) {
		return nil, exitf(exitNoMaster, "no master of %s is running; looked in %s", a.service, strings.Join(a.bases(), ", "))
	}
	return nil, fault
}

// byFile finds the master of a configuration file.
func (a *app) byFile(ctx context.Context, file string) (*api.Client, error) {
	cfg, bad := config.Load(file, a.environ())
	var client *api.Client
	var fault error
	if bad == nil {
		client = a.client(cfg.RuntimeDir)
		if fault = alive(ctx, client); fault == nil {
			return client, nil
		}
	}
	real := realPath(file)
	for _, f := range a.find(ctx) {
		if f.err != nil {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, aliveTimeout)
		st, err := f.client.Status(ctx)
		cancel()
		if err == nil && realPath(st.ConfigFile) == real {
			return f.client, nil
		}
	}
	switch {
	case bad != nil:
		return nil, exitf(exitUsage, "%v", bad)
	case isNoMaster(fault):
		return nil, exitf(exitNoMaster, "no master of %s is running: nobody listens on %s", cfg.Service, client.Socket())
	}
	return nil, fault
}

// only finds the only service that runs.
func (a *app) only(ctx context.Context) (*api.Client, error) {
	var live, denied []found
	for _, f := range a.find(ctx) {
		switch {
		case f.err == nil:
			live = append(live, f)
		case !isNoMaster(f.err):
			denied = append(denied, f)
		}
	}
	switch {
	case len(live) == 1:
		return live[0].client, nil
	case len(live) > 1:
		var b strings.Builder
		b.WriteString("several services run here; say which with --service NAME:")
		for _, f := range live {
			fmt.Fprintf(&b, "\n  %-20s %s", f.name, filepath.Dir(f.client.Socket()))
		}
		return nil, &exit{exitUsage, b.String()}
	case len(denied) > 0:
		return nil, denied[0].err
	}
	return nil, exitf(exitNoMaster, "no running service was found in %s; start one with \"masterd run\", or say which with --config FILE or --service NAME", strings.Join(a.bases(), " or "))
}

// find lists the services that have an admin socket, by name, each one once.
func (a *app) find(ctx context.Context) (list []found) {
	for _, dir := range a.bases() {
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, e := range entries {
			path := filepath.Join(dir, e.Name())
			if info, err := os.Lstat(filepath.Join(path, adminSocket)); err != nil || info.Mode().Type() != fs.ModeSocket {
				continue
			}
			if len(list) == maxFound {
				return list
			}
			client := a.client(path)
			list = append(list, found{e.Name(), client, alive(ctx, client)})
		}
	}
	slices.SortStableFunc(list, func(x, y found) int { return strings.Compare(x.name, y.name) })
	return list
}

// bases are the directories that hold services' runtime directories, those of
// the user first. One in a temporary directory that somebody else has made is
// a trap and is left out.
func (a *app) bases() (dirs []string) {
	if a.uid != 0 {
		tmp := a.env("TMPDIR")
		if tmp == "" {
			tmp = "/tmp"
		}
		for _, parent := range []string{a.env("XDG_RUNTIME_DIR"), tmp} {
			dir := filepath.Join(parent, "masterd-"+strconv.Itoa(a.uid))
			if parent != "" && !slices.Contains(dirs, dir) && ownedBy(dir, a.uid) {
				dirs = append(dirs, dir)
			}
		}
	}
	return append(dirs, a.systemDir)
}

// ownedBy: a real directory that nobody but uid can put anything into.
func ownedBy(dir string, uid int) bool {
	info, err := os.Lstat(dir)
	if err != nil || !info.IsDir() || info.Mode().Perm()&0o022 != 0 {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == uid
}

func (a *app) client(runtimeDir string) *api.Client {
	sudo := ""
	if a.uid == 0 {
		sudo = a.env("SUDO_USER")
	}
	return api.NewClient(filepath.Join(runtimeDir, adminSocket), sudo)
}

func alive(ctx context.Context, c *api.Client) error {
	ctx, cancel := context.WithTimeout(ctx, aliveTimeout)
	defer cancel()
	return c.Alive(ctx)
}

func isNoMaster(err error) bool {
	var f *api.Fault
	return errors.As(err, &f) && f.Kind == api.NoMaster
}

// realPath is path without symbolic links, or path itself.
func realPath(path string) string {
	if r, err := filepath.EvalSymlinks(path); err == nil {
		return r
	}
	return path
}
