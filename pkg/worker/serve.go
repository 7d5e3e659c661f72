package worker

import (
	"net"

	"github.com/masterd/masterd/pkg/worker/internal/rotate"
	"github.com/masterd/masterd/pkg/worker/internal/serve"
)

// GracefulServer serves something else than net/http on a listener; *grpc.Server is
// one. It serves one [net.Listener], whose Close ends that Accept and nothing
// else: the sockets are not the server's.
type GracefulServer interface {
	// Serve takes connections until the server is stopped, in whichever way.
	// To return before that is a failure: the worker leaves, and Run returns it.
	Serve(net.Listener) error
	// GracefulStop stops taking connections, asks those that are open to leave,
	// and returns when the last has.
	GracefulStop()
	// Stop closes what is open. It may be called while GracefulStop waits, and
	// ends that.
	Stop()
}

// Serve is [Worker.Handle] for a listener that does not speak HTTP, or not by
// net/http:
//
//	w.Serve("grpc", func() worker.GracefulServer {
//		s := grpc.NewServer()
//		pb.RegisterShopServer(s, shop)
//		return s
//	}, worker.Address("127.0.0.1:50051"))
//
// A server that was stopped cannot go on, and a worker may be parked and
// activated many times: make is called for each span in which the worker takes
// connections. When the worker is parked, the server is stopped gracefully
// while a fresh one serves what still arrives, and goes on when the worker is
// activated again; one that nobody has come to is not replaced. A drain stops
// the current one gracefully, and its deadline stops all that have not ended.
// make is called once more for the master's health checks, whose server no park
// stops. It is not called before the BeforeReady functions have returned, and
// must not wait for anything. When it panics or returns nil at the start, Run
// returns that; at a park the current server goes on.
//
// Connections are counted as everywhere, requests cannot be: InFlight and
// Requests of [Stats] do not know them. Of the options [Address], [MaxConns]
// and [MaxConnsPerAddress] make sense here.
func (w *Worker) Serve(name string, make func() GracefulServer, opts ...ListenerOption) {
	l := &serve.Config{Name: name, Make: func() rotate.Server { return make() }}
	for _, opt := range opts {
		opt(l)
	}
	switch {
	case name == "":
		w.mistake("Serve needs the listener's name")
	case make == nil:
		w.mistake("Serve(%q) needs a function that makes the server, it was given nil", name)
	case w.listener(name) != nil:
		w.mistake("Serve(%q): the listener is served already, by Handle or Serve", name)
	case l.TLS || l.H2C || len(l.Adjust) > 0 || l.BodyRate.PerSecond > 0:
		w.mistake("Serve(%q): worker.TLS, worker.H2C, worker.Server and worker.MinBodyRate are for Handle; "+
			"tell the server itself what it needs",
			name)
	default:
		w.listeners = append(w.listeners, l)
	}
}
