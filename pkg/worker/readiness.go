package worker

import (
	"io"
	"net/http"
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
	if why := h.w.core.Unready(); why != "" {
		code, text = http.StatusServiceUnavailable, why
	}
	rw.Header().Set("Content-Type", "text/plain; charset=utf-8")
	rw.Header().Set("Cache-Control", "no-store")
	rw.WriteHeader(code)
	if r.Method != http.MethodHead {
		io.WriteString(rw, text+"\n")
	}
}
