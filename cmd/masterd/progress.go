package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/masterd/masterd/pkg/api"
)

// ask puts a request to a master and follows it.
type ask func(ctx context.Context, c *api.Client, stage func(api.Stage)) (api.Outcome, error)

// errPatience ends a wait that --timeout bounds.
type errPatience struct{ after time.Duration }

func (e errPatience) Error() string { return "no outcome within " + e.after.String() }

// follow asks for something, shows its stages and how it ended, and returns
// what the program is to end with. patience bounds the wait, not what was
// asked for; zero: no bound.
func (a *app) follow(cmd *cobra.Command, patience time.Duration, do ask) error {
	ctx, stop := a.interrupt(cmd.Context())
	defer stop()
	if patience > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, patience, errPatience{patience})
		defer cancel()
	}
	c, err := a.connect(ctx)
	if err != nil {
		return asExit(err, exitFailed) // nothing was asked yet
	}
	p := &progress{a: a, what: cmd.Name(), began: a.now()}
	o, err := do(ctx, c, p.stage)
	if err != nil {
		return p.lost(err)
	}
	return p.ended(o)
}

// progress shows how a request moves.
type progress struct {
	a          *app
	what       string // the verb
	began      time.Time
	generation uint64
	last       string // stage
}

const stageColumns = 9 // of a stage's name

// stage prints one line for each.
func (p *progress) stage(s api.Stage) {
	var about []string
	if s.Generation != p.generation {
		p.generation = s.Generation
		who := fmt.Sprintf("generation %d", s.Generation)
		if s.Version != "" {
			who += ", " + clean(s.Version)
		}
		about = append(about, who)
	}
	if s.Detail != "" {
		about = append(about, clean(s.Detail))
	}
	if left := s.Deadline.Sub(s.At); !s.Deadline.IsZero() && left > 0 {
		lasts := "at most "
		if s.Stage == stageCanary {
			lasts = "for "
		}
		about = append(about, lasts+span(left))
	}
	p.last = clean(s.Stage)
	line := fmt.Sprintf("%7s  %s  %s", seconds(s.At.Sub(p.began)), pad(p.last, stageColumns), strings.Join(about, ", "))
	fmt.Fprintln(p.a.out, strings.TrimRight(line, " "))
}

// ended tells the outcome: good news to standard output, the rest to standard
// error.
func (p *progress) ended(o api.Outcome) error {
	took := seconds(time.Duration(o.ElapsedMS) * time.Millisecond)
	at := ""
	if o.Stage != "" {
		at = " at stage " + o.Stage
	}
	why := ""
	if o.Reason != "" {
		why = ": " + o.Reason
	}
	var text string
	switch o.Result {
	case api.ResultDone:
		if why == "" && o.Generation != 0 {
			why = fmt.Sprintf(": generation %d", o.Generation)
			if o.Version != "" {
				why += ", " + o.Version
			}
		}
		fmt.Fprintf(p.a.out, "%s done after %s%s\n", p.what, took, cleanLines(why))
		p.leads(o.RollbackTarget)
		return nil
	case api.ResultAccepted:
		if o.Reason == "" {
			o.Reason = p.what + " accepted"
		}
		fmt.Fprintln(p.a.out, cleanLines(o.Reason))
		return nil
	case api.ResultFailed:
		if o.Stage == "bake" { // it has the traffic, and may yet be baked or be rolled back
			return exitf(exitUnknown, "%s has not ended after %s%s", p.what, took, why)
		}
		text = fmt.Sprintf("%s failed%s after %s and nothing has changed%s", p.what, at, took, why)
	case api.ResultRolledBack:
		text = fmt.Sprintf("%s was rolled back%s after %s%s", p.what, at, took, why)
	case api.ResultHeld:
		text = p.what + " was refused" + why
	case api.ResultSuperseded:
		text = fmt.Sprintf("%s was superseded%s%s", p.what, at, why)
	case api.ResultInvalid:
		text = p.what + " makes no sense now" + why
	default:
		text = fmt.Sprintf("%s ended with %q, which this masterd does not know%s", p.what, o.Result, why)
	}
	return &exit{outcomeCode(o.Result), text + lastLines(o)}
}

// leads tells where a rollback leads now, after what can be rolled back.
func (p *progress) leads(t *api.RollbackTarget) {
	if t == nil || !slices.Contains([]string{"reload", "rollback", "promote"}, p.what) {
		return
	}
	fmt.Fprintf(p.a.out, "rollback: %s\n", clean(t.String()))
	if due := t.DueIn(p.a.now(), span); due != "" {
		fmt.Fprintf(p.a.out, "confirm: %s\n", clean(due))
	}
}

// lastLines are what the worker behind a failure said last.
func lastLines(o api.Outcome) string {
	if len(o.LastLines) == 0 {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\n  worker %d said last:", o.Worker)
	for _, l := range o.LastLines {
		fmt.Fprintf(&b, "\n    %d | %s", o.Worker, strings.ReplaceAll(cleanOutput(l), "\t", "    "))
	}
	return b.String()
}

// lost tells what is known when no outcome came.
func (p *progress) lost(err error) error {
	var f *api.Fault
	if !errors.As(err, &f) || f.Kind != api.Broken && f.Kind != api.Expired {
		return asExit(err, exitUnknown)
	}
	stage := ""
	if p.last != "" {
		stage = " at stage " + p.last
	}
	if f.Kind == api.Broken {
		return exitf(exitUnknown, "the connection to the master broke%s before it said how %s ended: %v\nWhat came of it is not known here: \"masterd status\" and \"masterd history\" tell.", stage, p.what, f.Err)
	}
	var patience errPatience
	why := "you stopped watching"
	if errors.As(f.Err, &patience) {
		why = patience.Error()
	}
	onward := ""
	if p.last == stageCanary {
		onward = "\n\"masterd promote\" takes the next step of its canary."
	}
	return exitf(exitUnknown, "%s%s; %s goes on in the master\n\"masterd status\" shows how it goes, \"masterd history\" how it ended, \"masterd abort\" ends it.%s", why, stage, p.what, onward)
}
