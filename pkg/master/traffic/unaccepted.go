package traffic

import (
	"net"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/ipc/fdpass"
	"github.com/masterd/masterd/pkg/master/answer"
	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/listen"
)

const (
	// maxWaiting is how many connections whose worker is gone may wait for
	// another to become active; more are closed.
	maxWaiting = 4096
	// placeAgain is when those are tried again for whom no worker had room.
	placeAgain = 5 * time.Millisecond
)

// unaccepted is a client's connection that no worker took: found in the queue of a
// slot that no worker is assigned, or come while nobody was alive.
type unaccepted struct {
	listener config.Listener
	fd       int
	since    time.Time
}

// TakeUnaccepted is called by the sockets' watcher with a connection whose worker
// is gone.
func (t *Router) TakeUnaccepted(l config.Listener, fd int) {
	t.Loop.PostOr(func() { t.wait(l, fd) }, func() { fdpass.DiscardConn(fd) })
}

// TakeOwn is called by the sockets' watcher with a connection that came while
// nobody was alive.
func (t *Router) TakeOwn(l config.Listener, c net.Conn) {
	fd, err := descriptor(c)
	_ = c.Close()
	if err != nil {
		t.Log.Warn("a client's connection is lost", zap.String("listener", l.Name), zap.Error(err))
		return
	}
	t.TakeUnaccepted(l, fd)
}

func (t *Router) wait(listener config.Listener, fd int) {
	if len(t.waiting) >= maxWaiting {
		t.Log.Warn("too many connections wait for a worker; one is closed", zap.String("listener", listener.Name),
			zap.Int("limit", maxWaiting))
		fdpass.DiscardConn(fd)
		return
	}
	t.waiting = append(t.waiting, unaccepted{listener, fd, time.Now()})
	t.Place()
}

// Place passes waiting connections to a worker that is steered to, so that their clients are
// answered and not reset. Workers without the SDK cannot take them: then, and when nobody is
// alive, the master answers itself. Clients that are to be held wait here for a worker.
func (t *Router) Place() {
	if len(t.waiting) == 0 {
		return
	}
	hold := t.Master.InForce().Unavailable.Answer == answer.ModeHold && !t.stopping()
	receivers := t.Workers.Receivers(t.steered)
	rest := t.waiting[:0]
	for i, o := range t.waiting {
		switch {
		case receivers.Pass(i, func(c *config.Config) string { return called(o.listener, c) }, o.fd):
		case len(receivers) > 0: // they have more to read than is good for them
			rest = append(rest, o)
			t.placeLater()
		case t.external(), t.nobody && (!hold || time.Since(o.since) >= holdTime):
			t.answerFD(o)
		default:
			rest = append(rest, o)
		}
	}
	t.waiting = rest
}

// placeLater has those who wait placed when the workers have read some more.
func (t *Router) placeLater() {
	if t.retrying {
		return
	}
	t.retrying = true
	time.AfterFunc(placeAgain, func() {
		t.Loop.Post(func() {
			t.retrying = false
			t.Place()
		})
	})
}

// stopping reports whether the service stops, so that no worker comes to be waited for.
func (t *Router) stopping() bool {
	st := t.Master.Machine()
	return st.Stopping && st.Drains.IsZero()
}

// answerer is the one that does what is configured now. Those whom it would
// hold have been held in the loop, where a worker that comes is seen.
func (t *Router) answerer() *answer.Answerer {
	mode := t.Master.InForce().Unavailable.Answer
	if mode == answer.ModeHold && (!t.external() || t.stopping()) {
		mode = answer.Mode503
	}
	return t.answers[mode]
}

// external reports whether the workers are without the SDK: they cannot be passed connections.
func (t *Router) external() bool { return t.Master.InForce().Worker.Kind != config.KindSDK }

// called is what a listener is called in a configuration.
func called(l config.Listener, c *config.Config) string {
	for _, x := range c.Listeners {
		if listen.Same(x, l) {
			return x.Name
		}
	}
	return l.Name
}

// speaksHTTP tells whether a 503 would be understood on this listener.
func speaksHTTP(c *config.Config, listener string) bool {
	if h := c.Health.HTTP; h != nil && h.Listener == listener {
		return h.Scheme == "http"
	}
	return strings.HasPrefix(listener, "http") && listener != "https"
}
