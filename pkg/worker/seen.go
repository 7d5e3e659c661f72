package worker

import "slices"

// seen is what the next hello tells of a life, beyond its state: what an
// earlier master has made of it. It is never changed.
type seen struct {
	asked      uint64
	listeners  []string
	paused     bool
	background bool
}

// show puts what has changed where the link's goroutine finds it. A hello comes
// after the end of a connection, which the life has heard of by then, and all
// that came on it before.
func (l *life) show() {
	now := seen{asked: l.asked, paused: l.paused, background: !l.jobs.idle()}
	for _, d := range l.doors {
		if len(d.sockets) > 0 {
			now.listeners = append(now.listeners, d.name)
		}
	}
	old := l.seen.Load()
	if old != nil && old.asked == now.asked && old.paused == now.paused && old.background == now.background && slices.Equal(old.listeners, now.listeners) {
		return
	}
	l.seen.Store(&now)
}

// givesTo are the workers that there is a way to.
func (h *handover) givesTo() (to []uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for r := range h.routes {
		to = append(to, r.to.Worker)
	}
	slices.Sort(to)
	return slices.Compact(to)
}
