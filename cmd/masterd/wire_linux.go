package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	systemd "github.com/coreos/go-systemd/v22/journal"
	"go.uber.org/zap"
	"golang.org/x/term"

	"github.com/masterd/masterd/pkg/master"
	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/journal"
	"github.com/masterd/masterd/pkg/master/listen"
	"github.com/masterd/masterd/pkg/master/takeover"
)

// startMaster reads the configuration and makes the master. A configuration
// that cannot be used does not keep a host from booting: the last good one
// runs, and everybody is told, unless strict is wanted.
func startMaster(o daemonOptions) (daemon, error) {
	lastGood := newLastGood(o.File, o.Env)
	cfg, degraded, err := usableConfig(lastGood, o.File, o.Env, o.Strict)
	if err != nil {
		return nil, err
	}
	logFile, toStdout := cfg.Log.Path()
	stream := os.Stderr
	if toStdout {
		stream = os.Stdout
	}
	native := ""
	if leads, err := journalStream(toStdout); err == nil && leads {
		native = journalSocket
	}
	j, err := journal.Open(journal.Options{
		Native: native,
		Level:  cfg.Log.Level, Format: cfg.Log.Format, File: logFile, Service: cfg.Service, PID: os.Getpid(), Stderr: stream,
		Color: logFile == "" && term.IsTerminal(int(stream.Fd())) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb",
	})
	if err != nil {
		return nil, err
	}
	if degraded != "" {
		j.Logger().Error("degraded", zap.String("reason", degraded))
	}
	for _, w := range cfg.Warnings() {
		j.Logger().Warn("configuration", zap.String("warning", w))
	}
	opt := o.Options
	opt.Config, opt.Degraded, opt.Journal = cfg, degraded, j
	opt.Reread, opt.Parse = func() (*config.Config, error) { return config.Load(o.File, o.Env) }, parser(o.File, o.Env)
	opt.Index, opt.Remember = indexFor(cfg, o.Env), lastGood.save
	opt.HookEnv, opt.WorkerEnv = hookEnv(o.Env), workerEnv(o.Env)
	opt.Effect, opt.Turn = effect(), turn()
	m, err := master.New(opt)
	if err != nil {
		_ = j.Close()
		return nil, err
	}
	return running{m, j}, nil
}

// journalSocket is where systemd's journal takes entries with fields.
const journalSocket = "/run/systemd/journal/socket"

// journalStream tells whether the log leads to systemd's journal.
func journalStream(stdout bool) (bool, error) {
	if stdout {
		return systemd.StdoutIsJournalStream()
	}
	return systemd.StderrIsJournalStream()
}

// usableConfig is what the file says or, if that cannot be used, the last good one;
// degraded tells so.
func usableConfig(good lastGood, file string, env []string, strict bool) (cfg *config.Config, degraded string, err error) {
	cfg, err = config.Load(file, env)
	if err == nil || strict {
		return cfg, "", err
	}
	last, lastErr := good.load(env)
	if lastErr != nil {
		if !errors.Is(lastErr, fs.ErrNotExist) {
			err = errors.Join(err, lastErr)
		}
		return nil, "", err
	}
	return last, fmt.Sprintf("The configuration %s cannot be used; the last good one runs: %v", file, err), nil
}

// indexFor is where the service is to be found by its name and configuration,
// if not by looking at the directories of all of the user's services.
func indexFor(cfg *config.Config, env []string) (base string) {
	host := config.SystemHost(env)
	base = host.RuntimeBase()
	if filepath.Dir(cfg.RuntimeDir) == base || !host.Makeable(base) {
		return "" // there is no place for it: the service is found by its configuration alone
	}
	return base
}

// parser reads a kept configuration as if it lay where the file is.
func parser(file string, env []string) func([]byte) (*config.Config, error) {
	return func(text []byte) (*config.Config, error) {
		return config.Parse(file, text, env, config.SystemHost(env))
	}
}

// startError gives a start that failed its exit code. What only a person can
// mend is wrong usage, and the service manager does not try it again; a disk
// that is full today may not be in a second.
func startError(err error) error {
	for _, transient := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EIO, syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.ENOBUFS} {
		if errors.Is(err, transient) {
			return &exit{exitFailed, err.Error()}
		}
	}
	var address *listen.Error
	if errors.As(err, &address) && address.Wait > 0 {
		return &exit{exitFailed, err.Error()} // it is free in a minute
	}
	var serves *takeover.ServesOnError
	if errors.As(err, &serves) {
		return &exit{exitFailed, err.Error()} // with exitUsage the service manager would end what serves
	}
	return &exit{exitUsage, err.Error()}
}

// hookEnv is what hooks may expect of their environment: where programs are and
// whose home this is, no secrets.
func hookEnv(env []string) []string {
	var kept []string
	for _, kv := range env {
		if name, _, _ := strings.Cut(kv, "="); name == "PATH" || name == "HOME" || name == "USER" || name == "LANG" || name == "TZ" {
			kept = append(kept, kv)
		}
	}
	return kept
}

// workerEnv is the one thing of the master's environment that is its workers'
// too: where the service manager has put the service's credentials.
func workerEnv(env []string) map[string]string {
	given := map[string]string{}
	for _, kv := range env {
		if name, value, _ := strings.Cut(kv, "="); name == "CREDENTIALS_DIRECTORY" {
			given[name] = value
		}
	}
	return given
}

// running is a master and its journal, which outlives it.
type running struct {
	*master.Master
	journal *journal.Journal
}

func (r running) Run(ctx context.Context) int {
	defer r.journal.Close()
	return r.Master.Run(ctx)
}
