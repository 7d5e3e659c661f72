//go:build !linux

package main

import (
	"context"
	"time"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/config"
)

// The daemon needs Linux. Elsewhere masterd is what talks to one, and check; all verbs
// are there, with the same help.

type (
	daemon        any
	daemonOptions struct{}
)

func becomeOther() {}

func needsLinux() error { return exitf(exitUsage, "the daemon needs Linux") }

func startMaster(daemonOptions) (daemon, error) { return nil, needsLinux() }

func (a *app) run(context.Context, bool) error { return needsLinux() }

func (a *app) firstLook(context.Context, []string, drafting, bool) error { return needsLinux() }

func reopenLogs(context.Context, *api.Client) (int, error) { return 0, needsLinux() }

func (a *app) prove(bool) error { return needsLinux() }

func (a *app) sweepAfter(time.Duration) error { return needsLinux() }

func (a *app) sweepUnit(string, time.Duration) error { return needsLinux() }

// tryWorkers tries nothing: no worker is started here.
func (a *app) tryWorkers(context.Context, *config.Config, *findings) {}

func (a *app) tryListeners(_ context.Context, _ *config.Config, f *findings) {
	f.bad("opening the listeners: this needs Linux")
}
