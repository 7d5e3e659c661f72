package contain

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

const (
	// scopeTimeout bounds what systemd may take to make a scope. A daemon-reload on a host
	// with many units keeps it busy for seconds.
	scopeTimeout = 10 * time.Second
	// maxSignals is how many of systemd's signals may wait to be read.
	maxSignals = 64

	scopeSuffix   = ".scope"
	serviceSuffix = ".service"
	systemSlice   = "system.slice"

	systemd = "org.freedesktop.systemd1"
	manager = systemd + ".Manager"
)

// A scope is a unit of systemd for processes that somebody else has started. A worker with
// limits (worker.limits.tasks, memory, memory_high) is moved into one while its shim waits
// for its order, before the program runs.
//
// The scope's cgroup is beside that of masterd's unit and not below it: a controller that is
// enabled below would keep systemd from starting the unit again after a kill. So the scope
// also outlives the unit. Its path follows from the names of the unit and of the worker, so
// the next master and `masterd sweep` find it. systemd removes it once nobody is in it.
//
// systemd does not report a limit that it cannot set, so each is read back before the
// program runs.

// scopes are where workers with limits get theirs.
type scopes struct {
	base    string // path of the cgroup, and beginning of the name: "/sys/fs/cgroup/system.slice/masterd:shop"
	unit    string // masterd's own; empty: it is in none
	socket  string // of the systemd that is asked
	timeout time.Duration
	err     error // why there are none
}

// scopesFor finds where this process's workers get their scopes: beside its unit, or, if
// it was started by hand, in the slice of the system's services. A login session's own
// slice would end with the session.
func scopesFor(name string) scopes {
	s := scopes{socket: "/run/systemd/private", timeout: scopeTimeout}
	if uid := os.Geteuid(); uid != 0 {
		s.socket = fmt.Sprintf("/run/user/%d/systemd/private", uid)
	}
	own, err := ownGroup()
	if err != nil {
		s.err = err
		return s
	}
	slice := ""
	for d := own; d != "/" && slice == ""; d = filepath.Dir(d) {
		switch {
		case s.unit == "" && filepath.Ext(d) == serviceSuffix:
			s.unit, slice = filepath.Base(d), filepath.Dir(d)
			name = strings.ReplaceAll(strings.TrimSuffix(s.unit, serviceSuffix), "@", ":") // a scope cannot be an instance
		case filepath.Ext(d) == scopeSuffix && os.Geteuid() == 0:
			d = "/" // a login session
		case filepath.Ext(d) == ".slice":
			slice = d
		}
	}
	if slice == "" {
		slice, s.err = mounted("/"+systemSlice, "")
	}
	s.base = filepath.Join(slice, name)
	return s
}

// Enter puts a process into a scope of a worker's own, and sees that the limits hold
// there. systemd is waited for, ctx and scopeTimeout bound that.
func (w *Workers) Enter(ctx context.Context, worker uint64, pid int, l Limits) error {
	return w.scopes.enter(ctx, scopeOf(w.scopes.base, worker), pid, l)
}

// Try puts a process, which is to end at once, into a scope with such limits.
func Try(ctx context.Context, runtimeDir string, pid int, l Limits) error {
	s := scopesFor(name(runtimeDir))
	return s.enter(ctx, fmt.Sprintf("%s-check-%d%s", s.base, pid, scopeSuffix), pid, l)
}

func (s scopes) enter(ctx context.Context, dir string, pid int, l Limits) error {
	err := s.err
	if err == nil {
		err = s.start(ctx, dir, pid, l)
	}
	if err == nil {
		err = holds(dir, pid, l)
	}
	if err != nil {
		return fmt.Errorf("worker.limits.tasks, memory and memory_high need a scope of systemd's: %w", err)
	}
	return nil
}

// start has systemd make the scope, and waits until the process is in it.
func (s scopes) start(ctx context.Context, dir string, pid int, l Limits) (err error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	defer func() {
		switch {
		case err == nil:
		case errors.Is(ctx.Err(), context.Canceled): // which closes the connection, wherever it waits
			err = ctx.Err()
		case errors.Is(ctx.Err(), context.DeadlineExceeded):
			err = fmt.Errorf("it did not answer at %s within %s: see what it waits for (systemctl list-jobs), then reload "+
				"again (%w)", s.socket, s.timeout, err)
		}
	}()
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", s.socket)
	if err != nil {
		return s.whyNoSystemd(err)
	}
	conn, err := dbus.NewConn(c, dbus.WithContext(ctx)) // closed when the time is over, whatever waits for it
	if err != nil {
		return errors.Join(err, c.Close())
	}
	defer conn.Close()
	if err := conn.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(os.Geteuid()))}); err != nil {
		return fmt.Errorf("%s does not let this user in: %w", s.socket, err)
	}
	signals := make(chan *dbus.Signal, maxSignals)
	conn.Signal(signals)
	var job dbus.ObjectPath
	err = conn.Object(systemd, "/org/freedesktop/systemd1").CallWithContext(ctx, manager+".StartTransientUnit", 0,
		filepath.Base(dir), "fail", s.properties(dir, pid, l), []struct {
			Name       string
			Properties []property
		}{}).Store(&job)
	if err != nil {
		return fmt.Errorf("it refuses %s: %w", filepath.Base(dir), err)
	}
	for {
		var signal *dbus.Signal
		select {
		case signal = <-signals:
		case <-ctx.Done():
		}
		if signal == nil {
			return errors.Join(errors.New("it hung up"), ctx.Err())
		}
		var id uint32
		var of dbus.ObjectPath
		var unit, result string
		if signal.Name != manager+".JobRemoved" || dbus.Store(signal.Body, &id, &of, &unit, &result) != nil || of != job {
			continue
		}
		if result != "done" {
			return fmt.Errorf("%s was not started (%s): journalctl -u %[1]s says why", filepath.Base(dir), result)
		}
		return nil
	}
}

// property is one of a unit, as D-Bus has it.
type property struct {
	Name  string
	Value dbus.Variant
}

func (s scopes) properties(dir string, pid int, l Limits) (all []property) {
	add := func(name string, value any) { all = append(all, property{name, dbus.MakeVariant(value)}) }
	add("Description", l.Description)
	add("Slice", filepath.Base(filepath.Dir(dir)))
	add("PIDs", []uint32{uint32(pid)})
	add("CollectMode", "inactive-or-failed") // or its name would be taken after an end by KILL
	// The worker's cgroups are its own, none with a controller. And one of its processes
	// that is killed for its memory does not end the others (OOMPolicy=continue, which
	// before 253 cannot be said of a scope).
	add("DelegateControllers", []string{})
	if s.unit != "" { // when the machine is shut down masterd drains its workers before they are ended
		add("Before", []string{s.unit})
	}
	for name, n := range map[string]uint64{"TasksMax": l.Tasks, "MemoryMax": l.Memory, "MemoryHigh": l.MemoryHigh} {
		if n > 0 {
			add(name, n)
		}
	}
	return all
}

// whyNoSystemd explains why nobody listens.
func (s scopes) whyNoSystemd(err error) error {
	switch {
	case !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) && !errors.Is(err, unix.ECONNREFUSED):
		return err
	case os.Geteuid() != 0:
		return fmt.Errorf("masterd is not root, and its user has no systemd of its own here; start it as a user's unit "+
			"(loginctl enable-linger, systemctl --user start masterd), or leave these limits out (%w)", err)
	}
	return fmt.Errorf("it is not the init here; leave these limits out, and set those of the container or of the init "+
		"that there is (%w)", err)
}

// holds checks that a process is where it is looked for later, and that its limits are
// in force: systemd leaves out those whose controller the kernel has not got, and says
// nothing.
func holds(dir string, pid int, l Limits) error {
	is, err := dirOf(strconv.Itoa(pid), "")
	if err != nil {
		return err
	}
	if is != dir {
		return fmt.Errorf("it has put process %d into %s, and not into %s; start masterd as a unit", pid, is, dir)
	}
	for _, c := range []struct {
		key, controller string
		files           []string // of which there is one, in cgroups of version 2 or 1
		most            uint64
	}{
		{"tasks", "pids", []string{"pids.max"}, l.Tasks},
		{"memory", "memory", []string{"memory.max", "memory.limit_in_bytes"}, l.Memory},
		{"memory_high", "memory", []string{"memory.high"}, l.MemoryHigh},
	} {
		if c.most == 0 {
			continue
		}
		at, err := dirOf(strconv.Itoa(pid), c.controller)
		if err != nil || !slices.ContainsFunc(c.files, func(f string) bool {
			n, ok := number(filepath.Join(at, f))
			return ok && n <= c.most
		}) {
			return fmt.Errorf("worker.limits.%s is not in force: the kernel's %s controller is missing or disabled (those "+
				"there are: cat /sys/fs/cgroup/cgroup.controllers); enable it (on some boards: "+
				"cgroup_enable=memory on the kernel's command line), or leave the limit out", c.key, c.controller)
		}
	}
	return nil
}
