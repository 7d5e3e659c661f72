package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/atomicfile"
	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/state"
	"github.com/masterd/masterd/pkg/master/trust"
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
// keep anybody from asking for the status or for a rollback. Masters whose
// runtime directory could be anywhere are in an index (state.Index).
//
// Nobody is believed who could have been put in the master's place by others
// than root, this user and the configuration's owner (package trust).
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
	// With a configuration named as well its owner is trusted.
	file, _ := a.configFile()
	owners := a.owners(file)
	var live []found
	var fault error
	for _, dir := range a.places(owners) {
		if dir.service != a.service {
			continue
		}
		client := a.client(dir.path, owners)
		err := alive(ctx, client)
		switch {
		case err == nil && dir.parent:
			return client, nil // of two of one name that one is meant
		case err == nil:
			live = append(live, found{a.service, client, nil})
		case fault == nil || !isNoMaster(err):
			fault = err
		}
	}
	switch {
	case len(live) == 1:
		return live[0].client, nil
	case len(live) > 1:
		return nil, ambiguous(live, "several services have this name; say which with --config FILE:")
	case fault == nil || isNoMaster(fault):
		return nil, exitf(exitNoMaster, "no master of %s is running; looked in %s", a.service, strings.Join(a.bases(owners), ", "))
	}
	return nil, fault
}

// byFile finds the master of a configuration file.
func (a *app) byFile(ctx context.Context, file string) (*api.Client, error) {
	owners := a.owners(file)
	cfg, bad := config.Load(file, a.environ())
	var client *api.Client
	var fault error
	if bad == nil {
		client = a.client(cfg.RuntimeDir, owners)
		if fault = alive(ctx, client); fault == nil {
			return client, nil
		}
	}
	real := realPath(file)
	places := a.places(owners)
	if dir := a.gleaned(file); dir != "" {
		places = append(places, place{path: dir})
	}
	for _, p := range places {
		if p.config != "" && realPath(p.config) != real {
			continue
		}
		other := a.client(p.path, owners)
		ctx, cancel := context.WithTimeout(ctx, aliveTimeout)
		st, err := other.Status(ctx)
		cancel()
		if err == nil && realPath(st.ConfigFile) == real {
			return other, nil
		}
		if fault == nil && p.config != "" && !isNoMaster(err) {
			fault = err // it is there, and cannot be talked to
		}
	}
	switch {
	case fault != nil && !isNoMaster(fault):
		return nil, fault
	case bad != nil:
		return nil, exitf(exitUsage, "%v", bad)
	}
	return nil, exitf(exitNoMaster, "no master of %s is running: nobody listens on %s", cfg.Service, client.Socket())
}

// gleaned is the runtime directory that a file seems to name which cannot be
// read as a whole; empty: none.
func (a *app) gleaned(file string) string {
	if dir := a.env("MASTERD_RUNTIME_DIR"); filepath.IsAbs(dir) {
		return dir
	}
	text, err := atomicfile.Read(realPath(file), maxConfig)
	if err != nil {
		return ""
	}
	_, dir, _ := config.Glean(file, text)
	return dir
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
		return nil, ambiguous(live, "several services run here; say which with --service NAME:")
	case len(denied) > 0:
		return nil, denied[0].err
	}
	return nil, exitf(exitNoMaster, "no running service was found in %s; start one with \"masterd run\", or say which with --config FILE or --service NAME", strings.Join(a.bases(a.owners("")), " or "))
}

// ambiguous says which services could be meant.
func ambiguous(live []found, question string) error {
	var b strings.Builder
	b.WriteString(question)
	for _, f := range live {
		fmt.Fprintf(&b, "\n  %-20s %s", f.name, filepath.Dir(f.client.Socket()))
	}
	return &exit{exitUsage, b.String()}
}

// find lists the services that have an admin socket, by name, each one once.
func (a *app) find(ctx context.Context) (list []found) {
	owners := a.owners("")
	for _, p := range a.places(owners) {
		if info, err := os.Lstat(filepath.Join(p.path, adminSocket)); err != nil || info.Mode().Type() != fs.ModeSocket {
			continue
		}
		client := a.client(p.path, owners)
		list = append(list, found{p.service, client, alive(ctx, client)})
	}
	slices.SortStableFunc(list, func(x, y found) int { return strings.Compare(x.name, y.name) })
	return list
}

// place is a runtime directory.
type place struct {
	service string
	path    string
	config  string // of a service in the index; empty: it is not known
	parent  bool   // it is among those of all of the user's services
}

// places are the runtime directories that can be found, at most maxFound.
func (a *app) places(owners trust.Owners) (list []place) {
	add := func(p place) {
		if len(list) < maxFound && !slices.ContainsFunc(list, func(q place) bool { return q.path == p.path }) {
			list = append(list, p)
		}
	}
	for _, base := range a.bases(owners) {
		entries, err := os.ReadDir(base)
		if err != nil && a.service != "" { // it may be entered and not be read
			add(place{a.service, filepath.Join(base, a.service), "", true})
		}
		for _, e := range entries {
			if !strings.HasPrefix(e.Name(), ".") {
				add(place{e.Name(), filepath.Join(base, e.Name()), "", true})
			}
		}
		for _, e := range state.Index(base, owners) {
			add(place{e.Service, e.RuntimeDir, e.Config, false})
		}
	}
	return list
}

// bases are the directories that hold services' runtime directories, those of
// the user first, then those of the configuration's owner. One that somebody
// else has made is a trap and is left out.
func (a *app) bases(owners trust.Owners) (dirs []string) {
	for _, uid := range owners {
		if uid == 0 {
			continue
		}
		for _, dir := range a.host(uid).RuntimeBases() {
			if !slices.Contains(dirs, dir) && ownedBy(dir, uid) {
				dirs = append(dirs, dir)
			}
		}
	}
	return append(dirs, a.systemDir)
}

// host is where the services of an ordinary user are.
func (a *app) host(uid int) config.Host {
	h := config.Host{UID: uid, Temp: a.env("TMPDIR")}
	if !filepath.IsAbs(h.Temp) {
		h.Temp = "/tmp"
	}
	if uid == a.uid {
		h.Home, h.Runtime, h.State = a.env("HOME"), a.env("XDG_RUNTIME_DIR"), a.env("XDG_STATE_HOME")
		return h
	}
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		h.Home = u.HomeDir
	}
	h.Runtime = filepath.Join("/run/user", strconv.Itoa(uid))
	return h
}

// owners are those who are believed besides root: this user, and whoever the
// configuration belongs to. That is also whose directory it is in, for he could
// write another one.
func (a *app) owners(file string) trust.Owners {
	owners := slices.Clone(a.trusted)
	if !owners.Has(a.uid) {
		owners = append(owners, a.uid)
	}
	if file == "" {
		return owners
	}
	for _, path := range []string{file, filepath.Dir(file)} {
		if info, err := os.Stat(path); err == nil && !owners.Has(trust.Owner(info)) {
			owners = append(owners, trust.Owner(info))
		}
	}
	return owners
}

// ownedBy: a real directory that nobody but uid can put anything into.
func ownedBy(dir string, uid int) bool {
	info, err := os.Lstat(dir)
	return err == nil && info.IsDir() && info.Mode().Perm()&0o022 == 0 && trust.Owner(info) == uid
}

// client talks to the master whose runtime directory this is, if it is who it
// should be: nobody else can have put the directory there, and behind the socket
// is root, an owner, or whom an owner has given the directory to, or one above it
// (a service manager does that, as a rule to a service's user).
func (a *app) client(runtimeDir string, owners trust.Owners) *api.Client {
	sudo := ""
	if a.uid == 0 {
		sudo = a.env("SUDO_USER")
	}
	return api.NewClient(filepath.Join(runtimeDir, adminSocket), sudo).Trust(func(c net.Conn) error {
		owners, info, err := owners.CheckGiven(runtimeDir)
		if err != nil {
			return err
		}
		uid, err := trust.Peer(c)
		switch {
		case errors.Is(err, errors.ErrUnsupported):
			return nil
		case err != nil:
			return err
		case !owners.Has(uid):
			return fmt.Errorf("it is uid %d, neither root nor %s", uid, owners)
		case info.Mode().Perm()&0o022 != 0:
			return fmt.Errorf("others may write to %s (mode %v), and anybody could have put it there; chmod go-w it", runtimeDir, info.Mode().Perm())
		}
		return nil
	})
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
