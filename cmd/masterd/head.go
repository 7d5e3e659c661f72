package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/masterd/masterd/pkg/api"
)

// The head of the status page is what whoever is woken up sees first: how the service is and
// why, what failed last, what can be typed now, what runs and where a rollback leads.

// head says what runs, since when, by whom and why, and what is not as it
// should be.
func (p *page) head() {
	st := p.st
	state, env := clean(st.State), cut(clean(st.Environment), 20)
	name := cut(clean(st.Service), max(p.width-columns(state)-columns(env)-2*gap, leastColumn))
	var text string
	left := -gap
	for _, part := range []struct {
		style style
		text  string
	}{{bold, name}, {stateStyle(st.State), state}, {plain, env}} {
		if part.text == "" {
			continue
		}
		if text != "" {
			text += strings.Repeat(" ", gap)
		}
		text += paint(p.colour, part.style, part.text)
		left += gap + columns(part.text)
	}
	// The right-hand side gives way. A master that ends may not know itself.
	if st.Master.PID != 0 {
		right := fmt.Sprintf("masterd %s, pid %d, up %s", cut(clean(st.Master.Version), nameColumns), st.Master.PID, span(st.Now.Sub(st.Master.Since)))
		if left+gap+columns(right) <= p.width {
			text += strings.Repeat(" ", p.width-left-columns(right)) + paint(p.colour, dim, right)
		}
	}
	p.add(text)

	for i, r := range st.Reasons {
		label := ""
		if i == 0 {
			label = st.State
		}
		p.field(label, stateStyle(st.State), r)
	}
	p.failure()
	p.next()
	p.sticky = len(p.lines)
	p.deployment()
	if e := st.Last; e != nil && e.WaitedMS != 0 {
		p.field("waited", plain, clientsWaited(*e))
	}
	p.field("config", plain, st.ConfigFile)
	p.field("file", yellow, st.FileDiffers)
	switch m := st.Master; {
	case m.Cgroup != "":
		p.field("contained", plain, "each worker and what it starts in a cgroup of its own")
	case m.NoCgroup != "":
		p.field("contained", plain, "by session and environment, there is no cgroup: "+m.NoCgroup)
	}
	if w := st.Waits; w != nil {
		text := "an automatic reload by " + w.By + ": " + w.Why
		if !w.Until.IsZero() {
			text = fmt.Sprintf("an automatic reload by %s waits %s: %s", w.By, span(max(w.Until.Sub(st.Now), 0)), w.Why)
		}
		p.field("waits", plain, text)
	}
	if h := st.Hold; h != nil {
		p.field("held", yellow, fmt.Sprintf("by %s: %s", h.By, h.Reason))
	}
}

// deployment is what has the traffic, and what a rollback would give it to.
func (p *page) deployment() {
	st := p.st
	if a := st.Active; a != nil {
		baked := "not baked yet"
		if a.Baked {
			baked = "baked"
		}
		called, digest := p.name(a.Version.Label), shortDigest(clean(a.Version.Digest))
		if called != digest { // a version without a name is called by its digest
			called += ", " + digest
		}
		p.field("version", plain, fmt.Sprintf("%s, generation %d, %s", called, a.Generation, baked))
		p.field("since", plain, fmt.Sprintf("%s, %s ago", stamp(a.Since.In(st.Now.Location())), span(st.Now.Sub(a.Since))))
		p.field("by", plain, a.By)
		p.field("why", plain, a.Why)
	} else {
		p.field("version", yellow, "none has the traffic")
	}
	if t := st.RollbackTarget; t != nil && st.State != "stopping" {
		short := *t
		short.Version = p.name(t.Version)
		p.field("rollback", plain, short.String())
		p.field("confirm", yellow, short.DueIn(st.Now, span))
	}
}

// failure is the last rollout that failed, however long ago.
func (p *page) failure() {
	e := p.st.LastFailure
	if e == nil {
		return
	}
	what := e.What
	if e.Version != "" {
		to := " to "
		if e.What == "start" {
			to = " of "
		}
		what += to + p.name(e.Version)
	}
	if e.To != 0 {
		what += fmt.Sprintf(" (generation %d)", e.To)
	}
	if e.By != "" {
		what += " by " + e.By
	}
	if e.Outcome == api.ResultRolledBack {
		what += " was rolled back"
	} else {
		what += " " + e.Outcome
	}
	if e.Stage != "" {
		what += " at stage " + e.Stage
	}
	p.field("failed", red, fmt.Sprintf("%s ago, %s: %s", span(p.st.Now.Sub(e.At)), stamp(e.At.In(p.st.Now.Location())), what))
	if e.Why != "" {
		p.field("", plain, "why: "+e.Why)
	}
	p.field("", plain, e.Reason)
}

// next are the commands that can help now.
func (p *page) next() {
	typed := make([]string, len(p.st.Next))
	most := 0
	for i, n := range p.st.Next {
		typed[i] = p.typed(n.Args)
		most = max(most, columns(typed[i]))
	}
	const indent, least = 2 + fieldColumns, 20
	label := "next"
	for i, n := range p.st.Next {
		head := "  " + paint(p.colour, dim, pad(label, fieldColumns))
		label = ""
		room := p.width - indent - most - gap
		if room < least { // the reason has lines of its own
			for _, l := range wrap(typed[i], p.width-indent) {
				p.add(head + paint(p.colour, bold, l))
				head = strings.Repeat(" ", indent)
			}
			for _, l := range wrap(clean(n.Why), p.width-indent-gap) {
				p.add(strings.Repeat(" ", indent+gap) + l)
			}
			continue
		}
		for j, l := range wrap(clean(n.Why), room) {
			if j == 0 {
				p.add(head + paint(p.colour, bold, pad(typed[i], most)) + strings.Repeat(" ", gap) + l)
			} else {
				p.add(strings.Repeat(" ", indent+most+gap) + l)
			}
		}
	}
}

// typed is a command line that means this very service.
func (p *page) typed(args []string) string {
	words := append([]string{"masterd"}, args...)
	if !slices.Contains(args, "--config") {
		words = append(words, p.which...)
	}
	for i, w := range words {
		words[i] = shellWord(clean(w))
	}
	return strings.Join(words, " ")
}

// shellWord is what is typed for s.
func shellWord(s string) string {
	if needsQuotes.MatchString(s) {
		return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
	}
	return s
}

// needsQuotes finds what a shell would take apart.
var needsQuotes = regexp.MustCompile(`[^-\w./:=@%+,]|^$`)
