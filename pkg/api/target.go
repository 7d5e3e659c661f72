package api

import (
	"fmt"
	"time"
)

// String says it to an operator.
func (t RollbackTarget) String() string {
	named := fmt.Sprintf("%s (generation %d)", t.Version, t.Generation)
	switch {
	case t.Refused != "":
		return "nowhere: " + t.Refused
	case t.Unmoved:
		return named + " keeps the traffic, what is on its way is given up"
	case t.Generation == 0:
		return "back to " + t.Version + ", which is started and checked first"
	case t.Warm:
		return "back to " + named + ", warm, at once"
	}
	return "back to " + named + ", of which no worker is alive just now"
}

// DueIn says what happens by itself, and how it is prevented; empty: nothing does.
func (t RollbackTarget) DueIn(now time.Time, span func(time.Duration) string) string {
	if t.Due.IsZero() {
		return ""
	}
	to := t.Version
	if t.Generation != 0 {
		to = fmt.Sprintf("generation %d", t.Generation)
	}
	return fmt.Sprintf("back to %s in %s unless `masterd promote`", to, span(max(t.Due.Sub(now), 0)))
}
