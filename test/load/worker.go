package load

import (
	"context"
	"net"
	"time"
)

// worker sends one request after the other, on a connection it keeps or on a
// new one each.
type worker struct {
	load     *Load
	kept     bool
	dialer   net.Dialer
	interval time.Duration // between two intended starts; zero: no waiting
	next     time.Time     // the intended start of the next request
	conn     *conn         // a kept worker's; nil: none
	buffers  buffers
}

// run is the open loop: the times at which requests should begin do not depend
// on how long the ones before take. A worker that is late sends at once, and the
// latency is measured from when it should have sent.
func (w *worker) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	defer w.leave()
	for {
		intended := time.Now()
		if w.interval > 0 {
			if wait := w.next.Sub(intended); wait > 0 {
				timer.Reset(wait)
				select {
				case <-timer.C:
				case <-ctx.Done():
					w.unsent(w.next) // the timer may be late by more than the end
					return
				}
			}
			intended = w.next
			w.next = w.next.Add(w.interval)
		}
		if ctx.Err() != nil {
			w.unsent(intended)
			return
		}
		w.request(intended)
	}
}

// unsent counts the intended starts from this one on that came before the end.
func (w *worker) unsent(intended time.Time) {
	<-w.load.ended
	if late := w.load.end.Sub(intended); w.interval > 0 && late >= 0 {
		w.load.tally.add(func(r *Result) *uint64 { return &r.Unsent }, 1+uint64(late/w.interval))
	}
}

// request makes one request and counts it, once.
func (w *worker) request(intended time.Time) {
	l := w.load
	deadline := time.Now().Add(l.plan.Timeout)
	c := w.conn
	if c == nil {
		var kind Kind
		var err error
		if c, kind, err = dial(&w.dialer, &l.plan, deadline, &w.buffers); err != nil {
			l.tally.failed(kind, Example{At: time.Now(), Kept: w.kept, Nth: 1, Err: err.Error()})
			w.breathe()
			return
		}
		l.tally.add(func(r *Result) *uint64 { return &r.Connections }, 1)
	}
	gone := c.served > 0 && c.idleEnd()
	if gone {
		l.tally.add(func(r *Result) *uint64 { return &r.ClosedIdle }, 1)
	}
	answer, kind, err := c.roundTrip(l.request[w.kept], l.plan.Method, deadline)
	if err == nil {
		if err = l.plan.Check(answer.status, answer.header, answer.body); err != nil {
			kind = CheckRefused
		}
	}
	if gone && (kind == Closed || kind == Reset) {
		kind = GoneIdle
	}
	if kind != "" {
		l.tally.failed(kind, Example{At: time.Now(), Kept: w.kept, Local: c.net.LocalAddr().String(), Nth: c.served + 1, Version: c.version, Err: err.Error()})
	} else {
		c.version = answer.header.Get("X-Worker-Version")
		l.tally.good(w.kept, c.version, intended, time.Now())
	}
	c.served++
	switch {
	case kind != "" && kind != CheckRefused: // out of step with the server
		c.close()
		w.conn = nil
	case !w.kept:
		l.closed(c.waitEnd(deadline))
		c.close()
	case answer.close:
		l.tally.add(func(r *Result) *uint64 { return &r.ClosedPolitely }, 1)
		c.close()
		w.conn = nil
	default:
		w.conn = c
	}
	if kind != "" {
		w.breathe()
	}
}

// closed counts how a new connection ended after its answer.
func (l *Load) closed(how end) {
	switch how {
	case endReset:
		l.tally.add(func(r *Result) *uint64 { return &r.ResetAfter }, 1)
	case endOpen:
		l.tally.add(func(r *Result) *uint64 { return &r.LeftOpen }, 1)
	}
}

// failurePause keeps a worker without a rate from burning a core on a port that
// refuses.
const failurePause = time.Millisecond

func (w *worker) breathe() {
	if w.interval == 0 {
		time.Sleep(failurePause)
	}
}

// leave closes a kept connection, and counts it if the server had already.
func (w *worker) leave() {
	if w.conn == nil {
		return
	}
	if w.conn.idleEnd() {
		w.load.tally.add(func(r *Result) *uint64 { return &r.ClosedIdle }, 1)
	}
	w.conn.close()
}
