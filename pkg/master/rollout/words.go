package rollout

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Sentences are read at night. They name what was attempted, the worker and
// the generation, the cause, and what can be done next.

func (v Version) called() string {
	switch {
	case v.Label != "":
		return v.Label
	case len(v.ID) > 12:
		return v.ID[:12]
	case v.ID != "":
		return v.ID
	}
	return "unknown"
}

func (g *generation) called() string {
	return fmt.Sprintf("generation %d (%s)", g.id, g.version.called())
}

func (w *worker) called() string {
	return fmt.Sprintf("worker %d of %s", w.id, w.gen.called())
}

func (a *attempt) called() string {
	return fmt.Sprintf("%s %d", a.noun(), a.id)
}

// named is called, with whose it is and why.
func (a *attempt) named() string {
	return a.called() + " of " + who(a.by, a.origin) + because(a.why)
}

// joined makes one clause of those that say something.
func joined(clauses ...string) string {
	return strings.Join(slices.DeleteFunc(clauses, func(c string) bool { return c == "" }), "; ")
}

func (a *attempt) noun() string {
	if a.what == "loop" {
		return "rollback out of a crash loop"
	}
	return a.what
}

// who names an asker; automatic ones and signals have no name of their own.
func who(by string, o Origin) string {
	switch {
	case by != "":
		return by
	case o == Watch:
		return "the file watch"
	case o == Signal:
		return "a signal"
	case o == Internal:
		return "masterd"
	}
	return "somebody"
}

// because adds an asker's reason, if one was given.
func because(why string) string {
	if why == "" {
		return ""
	}
	return " (" + strings.TrimSuffix(why, ".") + ")"
}

// sentence makes one of a clause.
func sentence(s string) string {
	s = strings.TrimSpace(s)
	if s == "" {
		return ""
	}
	if !strings.HasPrefix(s, "masterd") {
		s = strings.ToUpper(s[:1]) + s[1:]
	}
	if !strings.HasSuffix(s, ".") {
		s += "."
	}
	return s
}

func number(n int, noun string) string {
	if n == 1 {
		return "one " + noun
	}
	return strconv.Itoa(n) + " " + noun + "s"
}

func mebibytes(n uint64) string {
	return strconv.FormatUint((n+1<<20-1)>>20, 10) + " MiB"
}

// stillServing says what a failure has left in place.
func (m *Machine) stillServing() string {
	switch {
	case m.active.alive():
		return "; " + m.active.called() + " serves on"
	case m.returns():
		return "; " + m.active.called() + " is started again"
	case m.active != nil:
		return "; " + m.active.called() + " has the traffic and no worker alive, and is being restarted"
	}
	return "; nobody serves yet, masterd tries again"
}

func span(d time.Duration) string { return d.Round(time.Millisecond).String() }

// stageOf is the stage in which a worker of a candidate was stopped.
func stageOf(p Phase) Stage {
	switch p {
	case PhaseStarting:
		return StageStart
	case PhaseChecking:
		return StageCheck
	case PhaseWarming:
		return StageWarm
	case PhaseChecked, PhaseActivating:
		return StageActivate
	}
	return StageSteer
}
