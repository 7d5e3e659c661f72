package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/masterd/masterd/pkg/api"
)

// watchInterval is the time between two pages.
const watchInterval = time.Second

// What a terminal is told. The other screen keeps the operator's own lines, and
// nothing is ever cleared before it is written over: that would flicker.
const (
	screenEnter  = "\x1b[?1049h\x1b[?25l\x1b[2J"
	screenLeave  = "\x1b[?25h\x1b[?1049l"
	screenHome   = "\x1b[H"
	screenToEOL  = "\x1b[K"
	screenToEnd  = "\x1b[J"
	separatePage = "\n"
)

// watch shows the status each second until it is interrupted. A master that
// goes away is waited for: it may be on its way back.
func (a *app) watch(ctx context.Context, show func(io.Writer, api.Status) error, page bool) error {
	ctx, stop := a.interrupt(ctx)
	defer stop()
	_, _, terminal := a.terminal()
	if page && terminal {
		io.WriteString(a.out, screenEnter)
		defer io.WriteString(a.out, screenLeave)
	}
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	for first := true; ; first = false {
		var b bytes.Buffer
		if err := a.look(ctx, &b, show); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			if first && !terminal {
				return statusExit(err)
			}
			fmt.Fprintf(&b, "%s\n\n%s\n", cut(cleanLines(err.Error()), 10*a.pageWidth()), a.now().Format(time.TimeOnly))
		}
		var err error
		switch {
		case page && terminal:
			err = a.frame(b.String())
		case page && !first:
			_, err = io.WriteString(a.out, separatePage+b.String())
		default:
			_, err = a.out.Write(b.Bytes())
		}
		if err != nil {
			return exitf(exitStatusUnknown, "writing the status: %v", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (a *app) look(ctx context.Context, w io.Writer, show func(io.Writer, api.Status) error) error {
	st, err := a.askStatus(ctx)
	if err != nil {
		return err
	}
	return show(w, st)
}

// frame writes one page over the one before, in a single write. What does not
// fit on the screen is counted instead.
func (a *app) frame(text string) error {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if _, height, ok := a.terminal(); ok && height > 1 && len(lines) > height {
		more := len(lines) - height + 1
		lines = append(lines[:height-1], "... "+several(more, "more line"))
	}
	var b strings.Builder
	b.WriteString(screenHome)
	for i, l := range lines {
		if i > 0 {
			b.WriteString("\r\n")
		}
		b.WriteString(l)
		b.WriteString(screenToEOL)
	}
	b.WriteString(screenToEnd)
	_, err := io.WriteString(a.out, b.String())
	return err
}
