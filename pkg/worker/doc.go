// Package worker turns a program with http.Handlers (a Gin engine is one) into
// a worker of masterd: its connections come from the master's listening
// sockets, and it starts, parks, drains and leaves without losing a request.
//
//	func main() {
//		r := gin.New()
//		r.GET("/ping", func(c *gin.Context) { c.String(200, "pong") })
//
//		w := worker.New(worker.Options{})
//		w.Handle("http", r, worker.Address("127.0.0.1:8080"))
//		w.OnActive(func(ctx context.Context) { cron(ctx) })
//		if err := w.Run(context.Background()); err != nil {
//			log.Fatal(err)
//		}
//	}
//
// The same program runs in three ways, and finds out by itself which:
//
//   - Under masterd (MASTERD_CONTROL is set): the master gives it its sockets
//     once it has passed its checks, and says what it is. [Address] is not used.
//   - Under systemd socket activation (LISTEN_FDS and LISTEN_PID are set): the
//     sockets are taken by name, and NOTIFY_SOCKET is told when it serves.
//   - Alone: it binds each listener's [Address], else PORT from the environment.
//
// # Life
//
// A worker's [State] moves forward, but for active and parked, which change
// places as often as the master rolls over and back:
//
//	new → ready → active ⇄ parked → draining → Run returns
//
// In every state it serves what reaches it. What the states change is how it
// parts from its clients, and whether its background work runs:
//
//	             background work   answers say Connection: close   takes new connections
//	new, ready         no                     no                    only health checks
//	active             yes                    no                           yes
//	parked             no             where they cannot move       those that still arrive
//	draining           no             where they cannot move               no
//
// # Leaving without a loss
//
// Once another worker has the traffic, plaintext HTTP/1.1 connections move there
// as soon as they wait for a request: the master opens a way, and clients notice
// nothing. While a canary has a share of the traffic, the same share of them moves, and
// the worker is active as before. What follows is about connections for which there is no
// way: with TLS in the worker, HTTP/2, in a stop, or without a master.
//
// A drain takes what is still queued at the listening sockets, closes them, and
// then only waits: each connection is told Connection: close with its
// next answer and is closed after that answer; HTTP/2 is told at once, by a
// GOAWAY that warns and one that ends (RFC 9113, section 6.8). No idle connection is
// closed under a client's next request, which is why [http.Server.Shutdown] is
// never called while one is open. What is left at the deadline is cut, and
// counted in [Stats]. Handlers that answer for long (Server-Sent Events,
// WebSockets) end by themselves when [Leaving] tells them; [LeavingContext] and
// [AfterLeaving] tell the same as a context and by a call, also to what serves a hijacked
// connection when its handler has returned. A hub that knows all of its connections is
// told once, by [Worker.OnLeaving].
//
// # Handing long-lived connections off
//
// A handler that has hijacked its connection need not end it then.
// [Worker.HandOff] gives it to the worker that has the traffic, with what that
// one must know and with the bytes that were read and not used; the function
// that the successor gave to [Worker.Receive] serves it on. The client notices
// nothing. Each version says which kinds and which versions of their state it
// understands; what is refused is still the giver's, who says goodbye in the
// protocol's way.
//
// State that all connections of a kind share must be where the successor looks
// before the first of them is handed off. It is best owned by an OnActive
// function: that of the successor begins only once this one has returned, and
// the successor's Receive functions wait for it.
//
// # Load balancers in front
//
// [Worker.Readiness] is a handler for them. A master announces a stop to it
// (stop_announce); without one, [Options.Announce] does: for that long it answers
// 503 and everything else goes on in full. Then the drain begins.
//
// # What is counted
//
// The worker counts requests by status and route, how long they took, their bytes, what is in
// flight, connections, and what Go's runtime says of the heap and of pauses. Its master has the
// sums over all processes of the service. A request's route is the pattern that [http.ServeMux]
// has set in it ([http.Request.Pattern]), "GET /users/{id}"; Gin's routes are named by
// ginworker. Requests without one count as those of "other", and so do those of routes beyond
// the first 64 of a listener. A middleware around the router that replaces the request
// ([http.Request.WithContext]) hides its route: put such middlewares inside of the router.
//
// [Count] and [Observe] are for what only the program knows, [Options.MaxInFlight] tells how many
// requests at one time it is made for.
//
// # Bounds of clients
//
// [MinBodyRate], [MaxConns] and [MaxConnsPerAddress] bound slow uploads and many
// connections, where a listener asks for them: each ends, or holds up, what could have
// been served. Headers, handshakes and idle connections have bounds by default.
//
// # State that survives
//
// What a worker has in memory ends with its process, which each reload replaces.
// [Worker.Keep] has the master keep it for whoever comes after: the next
// version, the one before after a rollback, a replacement after a crash.
//
//	err := w.UpdateKept(ctx, "sessions", func(kept []byte) ([]byte, error) {
//		return add(kept, session)
//	})
//
// During a reload two versions run, and both may write: [Worker.UpdateKept] is
// for that. [Worker.MapKept] maps what is large and only read, so that two
// versions share one copy. What is kept is dropped when the service stops,
// unless [Persist] asks otherwise. It outlives a master that dies or is upgraded,
// and is lost when the master and its keeper die together. Form and version of
// the bytes are the program's: a rollback brings back a version that has to read
// what the newer one has written.
//
// # Losing the master
//
// A worker whose master died serves on, and looks for a new one at the same
// place for ever.
package worker
