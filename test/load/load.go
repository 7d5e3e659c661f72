// Package load is a client that forgives nothing: raw HTTP/1.1, never a retry,
// every failed request counted under what went wrong, kept and new connections
// apart, latency from the time at which a request should have begun. What other
// clients paper over (a kept connection that is gone when its next request is
// sent) is what it is there to see.
package load

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"
)

const (
	defaultTimeout = 10 * time.Second // for one request, dialling included
	maxAnswer      = 64 << 20         // bytes of one answer's body
	maxSources     = 200              // loopback addresses to come from
)

// Plan is what shall be sent. The zero value of each field but Addr is usable.
type Plan struct {
	Addr string // "host:port", or the absolute path of a Unix socket
	// requests a second over all workers, spread evenly; zero: each worker as fast as it gets
	// answers
	Rate    int
	Kept    int           // workers that keep their connection; one when Kept and Fresh are both zero
	Fresh   int           // workers that make a new connection for each request and ask for its end
	Method  string        // default GET, POST when there is a body
	Path    string        // default "/"
	Host    string        // default Addr's, "localhost" for a Unix socket
	Header  []string      // more header lines, "Name: value"
	Body    int           // bytes in each request's body
	TLS     *tls.Config   // nil: none
	Timeout time.Duration // for one request from its real start; default 10 s
	// how many of 127.0.0.1, .2, … to come from in turn; zero: let the kernel choose. For more new
	// connections a second than one address has ports for
	Sources int

	// Check says what is wrong with an answer whose framing is right; nil wants
	// status 200. The body is valid during the call only. Called from many
	// goroutines at once.
	Check func(status int, header Header, body []byte) error
}

// Load is a plan that is being carried out.
type Load struct {
	plan    Plan
	request map[bool][]byte // kept or not → all bytes of a request
	began   time.Time
	tally   tally
	workers sync.WaitGroup
	ended   chan struct{} // closed at the plan's end
	end     time.Time     // when that was; to be read after ended
}

// Run carries out a plan until ctx is done, lets requests that have begun end
// (within Timeout; they are counted like all others), and says how it went.
func Run(ctx context.Context, plan Plan) *Result { return Start(ctx, plan).Wait() }

// Start begins to carry out a plan; Wait must be called.
func Start(ctx context.Context, plan Plan) *Load {
	plan = plan.complete()
	l := &Load{
		plan:    plan,
		request: map[bool][]byte{true: plan.bytes(true), false: plan.bytes(false)},
		began:   time.Now(),
		tally:   newTally(),
		ended:   make(chan struct{}),
	}
	context.AfterFunc(ctx, func() {
		l.end = time.Now()
		if planned, ok := ctx.Deadline(); ok && planned.Before(l.end) {
			l.end = planned // this function may have been late
		}
		close(l.ended)
	})
	all := plan.Kept + plan.Fresh
	for i := range all {
		w := &worker{load: l, kept: i < plan.Kept, dialer: plan.dialer(i)}
		w.buffers.in = bufio.NewReaderSize(nil, readBuffer)
		if plan.Rate > 0 {
			w.interval = time.Duration(float64(time.Second) * float64(all) / float64(plan.Rate))
			// Side by side, not all at once; kept and new ones interleaved, so
			// that neither kind has a part of each interval to itself.
			w.next = l.began.Add(w.interval * time.Duration(plan.turn(i)) / time.Duration(all))
		}
		l.workers.Go(func() { w.run(ctx) })
	}
	return l
}

// Wait returns when the plan's context is done and every request has ended.
func (l *Load) Wait() *Result {
	l.workers.Wait()
	<-l.ended
	return l.Snapshot()
}

// Snapshot is the result so far. Its parts belong together.
func (l *Load) Snapshot() *Result {
	return l.tally.result(l.began, time.Now())
}

func (p Plan) complete() Plan {
	if p.Kept <= 0 && p.Fresh <= 0 {
		p.Kept = 1
	}
	p.Kept, p.Fresh, p.Body = max(p.Kept, 0), max(p.Fresh, 0), max(p.Body, 0)
	p.Sources = min(p.Sources, maxSources)
	if p.Method == "" {
		p.Method = "GET"
		if p.Body > 0 {
			p.Method = "POST"
		}
	}
	if p.Path == "" {
		p.Path = "/"
	}
	if p.Host == "" {
		p.Host = p.Addr
		if p.unix() {
			p.Host = "localhost"
		}
	}
	if p.Timeout <= 0 {
		p.Timeout = defaultTimeout
	}
	if p.Check == nil {
		p.Check = func(status int, _ Header, _ []byte) error {
			if status != 200 {
				return fmt.Errorf("status %d", status)
			}
			return nil
		}
	}
	return p
}

func (p Plan) unix() bool { return strings.HasPrefix(p.Addr, "/") }

// bytes is a whole request. A pattern that does not repeat at powers of two
// makes a piece that is lost or doubled change the body's hash.
func (p Plan) bytes(kept bool) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\n", p.Method, p.Path, p.Host)
	for _, line := range p.Header {
		fmt.Fprintf(&b, "%s\r\n", line)
	}
	if p.Body > 0 || p.Method == "POST" || p.Method == "PUT" {
		fmt.Fprintf(&b, "Content-Type: application/octet-stream\r\nContent-Length: %d\r\n", p.Body)
	}
	if !kept {
		b.WriteString("Connection: close\r\n")
	}
	b.WriteString("\r\n")
	b.Write(Body(p.Body))
	return []byte(b.String())
}

// Body is what requests with a body of n bytes carry, for servers and checks
// that want to compare.
func Body(n int) []byte {
	body := make([]byte, n)
	for i := range body {
		body[i] = 'a' + byte(i%23)
	}
	return body
}

// turn spreads the kept workers among the new-connection ones.
func (p Plan) turn(i int) int {
	all := p.Kept + p.Fresh
	if i < p.Kept {
		return i * all / p.Kept
	}
	// The places that no kept worker has, in order.
	skip := i - p.Kept
	for place, kept := 0, 0; place < all; place++ {
		if kept < p.Kept && place == kept*all/p.Kept {
			kept++
			continue
		}
		if skip == 0 {
			return place
		}
		skip--
	}
	return i
}

// dialer makes worker i's connections come from its source.
func (p Plan) dialer(i int) net.Dialer {
	d := net.Dialer{KeepAlive: -1} // probes of the kernel's would only cost
	if p.Sources > 0 && !p.unix() {
		d.LocalAddr = &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(1+i%p.Sources))}
		d.Control = bindLate
	}
	return d
}
