package worker

import (
	"fmt"
	"io"
	"net/http"
	"time"
)

// Readiness answers load balancers that ask whether to send traffic to this
// address: 200 "ready", or 503 with the reason. Mount it on a path of its own,
// beside the check that a master makes:
//
//	mux.Handle("/readyz", w.Readiness())            // net/http
//	r.GET("/readyz", gin.WrapH(w.Readiness()))      // Gin
//
// It speaks for the service, not for one of its versions: 503 means that the
// service is about to stop (a stop that was announced, or that drains already),
// or, in a worker without a master, that it is not ready yet or leaves. A worker
// that is parked or drains in favour of another version answers 200: the address
// goes on being served, and a load balancer that asked on a kept connection
// must not take it for down.
func (w *Worker) Readiness() http.Handler { return readiness{w} }

type readiness struct{ w *Worker }

func (h readiness) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	code, text := http.StatusOK, "ready"
	if why := h.w.unready(); why != "" {
		code, text = http.StatusServiceUnavailable, why
	}
	rw.Header().Set("Content-Type", "text/plain; charset=utf-8")
	rw.Header().Set("Cache-Control", "no-store")
	rw.WriteHeader(code)
	if r.Method != http.MethodHead {
		io.WriteString(rw, text+"\n")
	}
}

// unready is why no traffic is wanted; empty: it is.
func (w *Worker) unready() string {
	switch s := w.State(); {
	case s == StateNew:
		return "starting"
	case w.ending.Load():
		return "stopping"
	case s == StateDraining && !w.info.Managed:
		return "draining"
	}
	return ""
}

// announce says that a worker without a master is about to leave, if that is
// wanted and was not said before. It tells whether the leave has to wait.
func (l *life) announce(why string) bool {
	if l.w.info.Managed || l.w.opts.Announce <= 0 || l.state() != StateActive || l.announcing != "" {
		l.announced.Stop()
		return false
	}
	l.announcing = why
	l.w.ending.Store(true)
	l.announced.Reset(l.w.opts.Announce)
	l.log.Info("worker: about to leave, serving on until load balancers have looked away", "why", why, "for", l.w.opts.Announce)
	say := "STOPPING=1"
	if t := l.w.opts.DrainTimeout; t > 0 {
		// The two together may take longer than who asked expects.
		say += fmt.Sprintf("\nEXTEND_TIMEOUT_USEC=%d", (l.w.opts.Announce + t + 2*time.Second).Microseconds())
	}
	l.notify(say)
	return true
}
