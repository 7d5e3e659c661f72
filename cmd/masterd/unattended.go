package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/process"
	"github.com/masterd/masterd/pkg/master/state"
	"github.com/masterd/masterd/pkg/master/trust"
)

// maxPIDs is how many processes are named.
const maxPIDs = 8

// askStatus finds the master that is meant and asks it for its status. If there is none it looks
// for workers that a dead one has left, which serve on.
func (a *app) askStatus(ctx context.Context) (api.Status, error) {
	c, err := a.connect(ctx)
	if err != nil {
		if e := asExit(err, exitStatusUnknown); e.code == exitNoMaster {
			for _, u := range a.unattended() {
				e.text += "\n" + u.String()
			}
			return api.Status{}, e
		}
		return api.Status{}, err
	}
	return c.Status(ctx)
}

// unattended are workers of one service that serve on without a master.
type unattended struct {
	service, config string
	pids            []int
	unit            string // of systemd, that the master was in; empty: none of ours
	user            bool   // it is one of a user's manager
}

// unattended looks where the master that is meant would be.
func (a *app) unattended() (all []unattended) {
	file, _ := a.configFile()
	owners := a.owners(file)
	places := a.places(owners)
	switch {
	case a.service != "":
		places = slices.DeleteFunc(places, func(p place) bool { return p.service != a.service })
	case file != "":
		dir, service := a.gleaned(file), ""
		if cfg, err := config.Load(file, a.environ()); err == nil {
			dir, service = cfg.RuntimeDir, cfg.Service
		}
		places = slices.DeleteFunc(places, func(p place) bool { return p.path != dir && (p.config == "" || realPath(p.config) != realPath(file)) })
		if len(places) == 0 && dir != "" {
			places = []place{{service: service, path: dir, config: file}}
		}
		for i := range places {
			places[i].config = file
		}
	}
	for _, p := range places {
		if u, ok := leftBehind(p, owners); ok {
			all = append(all, u)
		}
	}
	return all
}

// leftBehind reads what the last master has left in a runtime directory. What cannot be read,
// or may be another's, is nothing.
func leftBehind(p place, owners trust.Owners) (unattended, bool) {
	u := unattended{service: p.service, config: p.config}
	if owners, info, err := owners.CheckGiven(p.path); err != nil || !owners.Has(trust.Owner(info)) || info.Mode().Perm()&0o022 != 0 {
		return u, false
	}
	live, err := state.LoadLive(p.path, state.Boot())
	if err != nil || live == nil {
		return u, false
	}
	for _, w := range live.Workers {
		if w.PID <= 0 || w.Leaving || w.Stopped || w.Asked {
			continue
		}
		if begun, err := process.Begun(w.PID); err != nil || begun != w.Begun {
			continue // it is gone, or its number is somebody else's
		}
		u.pids = append(u.pids, w.PID)
		if u.unit == "" {
			text, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(w.PID), "cgroup"))
			u.unit, u.user = unitOf(string(text))
		}
	}
	return u, len(u.pids) > 0
}

// unitOf is the unit of masterd's that a process is in, by its /proc/PID/cgroup: what masterd
// was started by in another way must not be started by that.
func unitOf(cgroup string) (unit string, user bool) {
	for _, path := range process.Cgroups(cgroup) {
		for part := range strings.SplitSeq(path, "/") {
			switch {
			case strings.HasPrefix(part, "user@"):
				user = true
			case strings.HasPrefix(part, "masterd") && strings.HasSuffix(part, ".service"):
				return part, user
			}
		}
	}
	return "", false
}

// String says who serves, and what to type.
func (u unattended) String() string {
	var pids []string
	for _, pid := range u.pids[:min(len(u.pids), maxPIDs)] {
		pids = append(pids, strconv.Itoa(pid))
	}
	if len(u.pids) > maxPIDs {
		pids = append(pids, "...")
	}
	start := "`masterd run`"
	if u.config != "" {
		start = "`masterd run --config " + shellWord(u.config) + "`"
	}
	switch {
	case u.unit != "" && u.user:
		start = "`systemctl --user start " + u.unit + "`"
	case u.unit != "":
		start = "`systemctl start " + u.unit + "`"
	}
	if n := len(pids); n == 1 {
		return fmt.Sprintf("one worker of %s (pid %s) still serves; the next master takes it over: %s", u.service, pids[0], start)
	}
	return fmt.Sprintf("%d workers of %s (pids %s) still serve; the next master takes them over: %s",
		len(u.pids), u.service, strings.Join(pids, ", "), start)
}
