package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os/signal"
	"syscall"
	"time"

	"github.com/masterd/masterd/pkg/api"
)

// watchInterval is the time between two looks.
const watchInterval = time.Second

const separatePage = "\n"

// watch shows the status each second until it is interrupted: on a terminal as a screen,
// elsewhere as pages, and with asJSON as JSON lines. A master that goes away is waited for:
// it may be on its way back.
func (a *app) watch(ctx context.Context, asJSON bool) error {
	ctx, stop := a.interrupt(ctx)
	defer stop()
	if _, _, terminal := a.terminal(); terminal && !asJSON {
		return a.watchScreen(ctx)
	}
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	said := "" // what went wrong last
	for first := true; ; first = false {
		var b bytes.Buffer
		st, err := a.askStatus(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && first:
			return statusExit(err)
		case err != nil && asJSON: // no line of JSON; once is enough
			if err.Error() != said {
				fmt.Fprintf(a.err, "masterd: %s\n", cleanLines(err.Error()))
			}
		case err != nil:
			fmt.Fprintf(&b, "%s%s\n\n%s\n", separatePage, cleanLines(err.Error()), a.now().Format(time.TimeOnly))
		case asJSON:
			err = lineJSON(&b, st)
		default:
			if !first {
				b.WriteString(separatePage)
			}
			err = a.showPage(&b, st)
		}
		if said = ""; err != nil {
			said = err.Error()
		}
		if _, err := a.out.Write(b.Bytes()); err != nil {
			return exitf(exitStatusUnknown, "writing the status: %v", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// lineJSON is for programs that read line by line.
func lineJSON(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(w, cleanJSON(b))
	return err
}

// watchScreen is the screen. Whatever ends it, but KILL, the terminal is put back.
func (a *app) watchScreen(ctx context.Context) (err error) {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGHUP, syscall.SIGQUIT)
	defer stop()
	keys, resized, restore := a.keys(ctx)
	defer restore()
	io.WriteString(a.out, screenEnter)
	defer io.WriteString(a.out, screenLeave)

	type answer struct {
		st  api.Status
		err error
	}
	answers := make(chan answer, 1)
	asking := false
	ask := func() {
		if !asking { // one that takes long is waited for
			asking = true
			go func() {
				st, err := a.askStatus(ctx)
				answers <- answer{st, err}
			}()
		}
	}
	defer func() { // ctx may go on: q was typed
		stop()
		if asking {
			<-answers
		}
	}()
	s := &screen{keys: keys != nil}
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	for ask(); ; {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			ask()
			continue
		case got := <-answers:
			asking = false
			if ctx.Err() != nil {
				return nil
			}
			s.err = got.err
			if got.err == nil {
				s.rates = rates(s.st, got.st)
				s.st = got.st
			}
			s.at = a.now()
		case k := <-keys:
			if k == keyQuit {
				return nil
			}
			s.scroll(k)
		case <-resized:
		}
		if err := a.frame(s); err != nil {
			return exitf(exitStatusUnknown, "writing the status: %v", err)
		}
	}
}

// rates are the requests in a second of each worker, between two looks; nil: there are none
// to compare.
func rates(before, now api.Status) map[uint64]float64 {
	took := now.Now.Sub(before.Now).Seconds()
	if before.Now.IsZero() || took <= 0 {
		return nil
	}
	had := map[uint64]uint64{}
	for _, g := range before.Generations {
		for _, w := range g.Workers {
			had[w.ID] = w.Requests
		}
	}
	all := map[uint64]float64{}
	for _, g := range now.Generations {
		for _, w := range g.Workers {
			if n, known := had[w.ID]; known && !w.Uncounted && w.Requests >= n {
				all[w.ID] = float64(w.Requests-n) / took
			}
		}
	}
	return all
}
