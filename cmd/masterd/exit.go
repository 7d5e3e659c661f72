package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/masterd/masterd/pkg/api"
)

// Exit codes: part of the promise to scripts.
const (
	exitDone       = 0
	exitFailed     = 1 // nothing has changed
	exitUsage      = 2 // wrong usage or configuration
	exitNoMaster   = 3
	exitRolledBack = 4
	exitHeld       = 5 // held or superseded
	exitUnknown    = 6 // the connection broke, or patience or the bake's time ended, before the outcome was known
	exitOpen       = 7 // written, but something is left to do by a person (import)

	// Those of status that differ, after the LSB.
	exitStatusDegraded = 1
	exitStatusUnknown  = 4
)

// exit is an error with the code that the program ends with. The text may have
// several lines; empty: everything was said.
type exit struct {
	code int
	text string
}

func (e *exit) Error() string { return e.text }

func exitf(code int, format string, args ...any) *exit {
	return &exit{code, fmt.Sprintf(format, args...)}
}

// asExit finds the code for an error of talking to a master. unknown is the
// code for an answer that did not come: a question that changes nothing has
// simply failed.
func asExit(err error, unknown int) *exit {
	var (
		e *exit
		p *api.Problem
		f *api.Fault
	)
	switch {
	case errors.As(err, &e):
		return e
	case errors.As(err, &p):
		return &exit{problemCode(p), p.Message}
	case errors.As(err, &f):
		switch f.Kind {
		case api.NoMaster:
			return &exit{exitNoMaster, f.Error()}
		case api.Denied:
			return exitf(exitFailed, "%v; root, masterd's own user and members of admin.operators_group and admin.readers_group may", f)
		case api.Unreachable, api.Untrusted:
			return &exit{exitFailed, f.Error()}
		case api.Busy:
			return exitf(exitFailed, "%v; nothing was asked of it, try again", f)
		}
		return &exit{unknown, f.Error()}
	}
	return &exit{exitFailed, err.Error()}
}

func problemCode(p *api.Problem) int {
	switch p.Result {
	case api.ResultHeld, api.ResultSuperseded:
		return exitHeld
	case api.ResultRolledBack:
		return exitRolledBack
	}
	if p.Status == 400 || p.Status == 422 {
		return exitUsage
	}
	return exitFailed
}

func outcomeCode(result string) int {
	switch result {
	case api.ResultDone, api.ResultAccepted:
		return exitDone
	case api.ResultRolledBack:
		return exitRolledBack
	case api.ResultHeld, api.ResultSuperseded:
		return exitHeld
	}
	return exitFailed
}

// report prints what an error has to say and returns its code. What does not
// carry a code comes from cobra: wrong usage.
func (a *app) report(cmd *cobra.Command, err error) int {
	if err == nil {
		return exitDone
	}
	var e *exit
	if !errors.As(err, &e) {
		e = exitf(exitUsage, "%v\nTry \"%s --help\".", err, cmd.CommandPath())
	}
	if e.text != "" {
		fmt.Fprintf(a.err, "masterd: %s\n", cleanLines(e.text))
	}
	return e.code
}
