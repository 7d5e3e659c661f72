package operator

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/contain"
	"github.com/masterd/masterd/pkg/master/generations"
	"github.com/masterd/masterd/pkg/master/listen"
	"github.com/masterd/masterd/pkg/master/proc"
	"github.com/masterd/masterd/pkg/master/workers"
)

// What `masterd check` tries of this host, besides what package check does.

// CheckCalls tries whether the calls of a worker that binds by itself can be
// answered here, with a process that ends at once. shim is how the exec shim is started. It is nil
// for other kinds, and when something else keeps the process from running.
func CheckCalls(c *config.Config, shim []string) error {
	if !workers.BindsItself(c) {
		return nil
	}
	self, err := os.Executable()
	if err != nil {
		return nil
	}
	p, err := proc.Start(proc.Spec{Shim: shim, Program: self, Args: []string{self, "version"}, Filter: true})
	if err != nil {
		if why, ok := errors.AsType[*proc.StartError](err); ok &&
			strings.Contains(why.Reason, "its calls cannot be answered") {
			return errors.New("worker.kind: unmodified is not possible: " + why.Reason)
		}
		return nil
	}
	<-p.Done()
	p.Close()
	return nil
}

// CheckLimits tries whether workers can have the limits that need a scope of systemd's,
// with a process that ends at once. shim is how the exec shim is started.
func CheckLimits(ctx context.Context, c *config.Config, shim []string) error {
	l := workers.Limits(c)
	self, err := os.Executable()
	if err != nil || !l.Any() {
		return nil
	}
	l.Description = "masterd: tries the limits of " + c.Service
	var refused error
	p, err := proc.Start(proc.Spec{Shim: shim, Program: self, Args: []string{self, "version"}, Enter: func(pid int) error {
		refused = contain.Try(ctx, c.RuntimeDir, pid, l)
		return refused
	}})
	if err == nil {
		<-p.Done()
		p.Close()
	}
	return refused
}

// CheckNewListeners tries those listeners that a service which runs does not have
// yet, as a reload would open them, and says of the others what cannot change.
func CheckNewListeners(c *config.Config, running api.Status) error {
	open := map[string]api.Listener{}
	for _, l := range running.Listeners {
		open[place(l.Address)] = l
	}
	var wrong []error
	for _, l := range c.Listeners {
		have, is := open[place(l.Address)]
		switch {
		case !is:
			if err := listen.Try(l, []int{running.Master.PID, running.Master.Keeper}); err != nil {
				wrong = append(wrong, heldByWorker(err, running))
			}
		case (have.Steering == "shared") != (l.Steering == "shared") &&
			(l.Steering == "shared" || have.Reason == listen.SharedReason):
			wrong = append(wrong, fmt.Errorf("listener %s on %s: steering cannot change from %s to %s "+
				"while the listener is open; restart the service for it", l.Name, l.Address, have.Steering, l.Steering))
		}
	}
	return errors.Join(wrong...)
}

// heldByWorker says so of an address that a worker of the running service has.
func heldByWorker(err error, running api.Status) error {
	e, is := errors.AsType[*listen.Error](err)
	if !is || e.PID == 0 {
		return err
	}
	leader, _ := unix.Getpgid(e.PID)
	for _, g := range running.Generations {
		for _, w := range g.Workers {
			if w.PID != 0 && (w.PID == e.PID || w.PID == leader) {
				return workers.HeldByWorker(e, w.ID)
			}
		}
	}
	return err
}

// place is an address without its options.
func place(address string) string {
	at, _, _ := strings.Cut(address, "?")
	return at
}

// CheckListeners opens every listener and closes it again, and says how each
// would steer. It is for a service that does not run: a running one has its
// addresses.
func CheckListeners(c *config.Config) ([]api.Listener, error) {
	set, err := listen.Open(listen.Options{Listeners: c.Listeners, Slots: generations.Slots(c), Log: zap.NewNop()})
	if err != nil {
		return nil, err
	}
	status := set.Status()
	return status, set.Close()
}
