package rollout

import (
	"fmt"
	"strings"
	"time"
)

// show writes a command the way the transcripts have it.
func show(c Command) string {
	switch c := c.(type) {
	case Prepare:
		s := fmt.Sprintf("prepare r%d", c.Rollout)
		if c.Token != "" {
			s += " token=" + c.Token
		}
		if c.Version != nil {
			s += " version=" + c.Version.ID
		}
		return s
	case Start:
		s := fmt.Sprintf("start w%d g%d s%d %s", c.Worker, c.Generation, c.Slot, c.Version.ID)
		if c.Replaces != 0 {
			s += fmt.Sprintf(" replaces=w%d", c.Replaces)
		}
		return s
	case Probe:
		return fmt.Sprintf("probe w%d", c.Worker)
	case Warm:
		return fmt.Sprintf("warm w%d", c.Worker)
	case Activate:
		return fmt.Sprintf("activate w%d", c.Worker)
	case Steer:
		s := fmt.Sprintf("steer %d:", c.Seq)
		for _, x := range c.Shares {
			s += fmt.Sprintf(" s%d×%d", x.Slot, x.Weight)
			if x.Canary {
				s += " canary"
			}
		}
		if len(c.Shares) == 0 {
			s += " nobody"
		}
		if c.Sticky != 0 {
			s += fmt.Sprintf(", by client with %d", c.Sticky)
		}
		return s
	case Park:
		s := fmt.Sprintf("park w%d", c.Worker)
		if c.Close {
			s += ", close its connections"
		}
		return s
	case Drain:
		s := fmt.Sprintf("drain w%d", c.Worker)
		if c.Deadline.IsZero() {
			return s + " patiently"
		}
		return s + " until " + c.Deadline.Sub(epoch).String()
	case Terminate:
		return fmt.Sprintf("terminate w%d: %s", c.Worker, c.Why)
	case Kill:
		return fmt.Sprintf("kill w%d: %s", c.Worker, c.Why)
	case Give:
		s := fmt.Sprintf("give w%d to", c.Worker)
		for _, to := range c.To {
			s += fmt.Sprintf(" w%d", to)
		}
		if len(c.To) == 0 {
			s += " nobody"
		}
		if c.Split != nil {
			s += ", " + percent(c.Split.Weight) + fmt.Sprintf(" of rollout %d", c.Split.Rollout)
			if c.Split.Sticky != 0 {
				s += " by client"
			}
		}
		return s
	case Compare:
		if c.Weight == 0 {
			return "compare no more"
		}
		return fmt.Sprintf("compare r%d: %s to %v, the rest to %v", c.Rollout, percent(c.Weight), c.Candidate, c.Stable)
	case Announce:
		return fmt.Sprintf("announce w%d", c.Worker)
	case Dump:
		return fmt.Sprintf("dump w%d", c.Worker)
	case Relieve:
		return fmt.Sprintf("relieve s%d", c.Slot)
	case Quarantine:
		return fmt.Sprintf("quarantine s%d", c.Slot)
	case Report:
		s := fmt.Sprintf("report r%d %s", c.Rollout, c.Stage)
		if c.Generation != 0 {
			s += fmt.Sprintf(" g%d", c.Generation)
		}
		if !c.Deadline.IsZero() {
			s += " until " + c.Deadline.Sub(epoch).String()
		}
		if c.Detail != "" {
			s += ": " + c.Detail
		}
		return s
	case Reply:
		s := fmt.Sprintf("reply q%d %s", c.Req, c.Code.String())
		if c.Stage != "" {
			s += " " + string(c.Stage)
		}
		if c.Worker != 0 {
			s += fmt.Sprintf(" w%d", c.Worker)
		}
		return s + ": " + c.Reason
	case Save:
		s := fmt.Sprintf("save %d: next g%d", c.Seq, c.State.NextGeneration)
		if c.State.Active != nil {
			s += ", active " + c.State.Active.ID
		}
		if c.State.Baked != nil {
			s += ", baked " + c.State.Baked.ID
		}
		if len(c.State.Kept) > 0 {
			s += ", kept"
			for _, v := range c.State.Kept {
				s += " " + v.ID
			}
		}
		if len(c.State.Closed) > 0 {
			s += ", closed " + strings.Join(c.State.Closed, " ")
		}
		if c.State.Hold != "" {
			s += ", held by " + c.State.HoldBy + " (" + c.State.Hold + ")"
		}
		return s
	case Record:
		e := c.Entry
		s := "record " + e.What
		if e.Rollout != 0 {
			s += fmt.Sprintf(" r%d", e.Rollout)
		}
		if e.By != "" {
			s += " by " + e.By
		}
		if e.From != 0 || e.To != 0 {
			s += fmt.Sprintf(" g%d→g%d", e.From, e.To)
		}
		s += " " + e.Code.String()
		if e.Stage != "" {
			s += " at " + string(e.Stage)
		}
		if e.Cut != (Cut{}) {
			s += ": " + e.Reason
		}
		return s
	case Hook:
		return fmt.Sprintf("hook %s r%d", c.Name, c.Rollout)
	case Retain:
		return "retain " + strings.Join(c.InUse, " ")
	case Exit:
		return "exit " + c.Code.String()
	}
	return fmt.Sprintf("%T %+v", c, c)
}

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
