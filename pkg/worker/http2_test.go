//go:build linux

package worker

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/worker/internal/goaway"
	"github.com/masterd/masterd/pkg/worker/internal/workertest"
)

// echoes answers with as many bytes as came, when all have come.
var echoes = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	w.Write(b)
})

// short is how long each wait of a goodbye is in these stories.
const short = 100 * time.Millisecond

// overBoth runs a story over HTTP/2 with and without TLS.
func overBoth(t *testing.T, h http.Handler, story func(t *testing.T, w *running, k *masterLink, connect func() *h2client)) {
	for _, kind := range []string{"h2c", "tls"} {
		t.Run(kind, func(t *testing.T) {
			s := newSlot(t, "http")
			opt, connect := H2C(), func() *h2client { return h2On(t, workertest.Dial(t, s.addr).Conn) }
			if kind == "tls" {
				opt, connect = TLS(workertest.WriteCertificate(t, t.TempDir(), 1)), func() *h2client { return h2TLS(t, s.addr) }
			}
			w, k := managed(t, func(w *Worker) {
				w.Handle("http", h, opt)
				w.core.Traffic.GoAways.LongestWait = short
			})
			k.activate(s)
			story(t, w, k, connect)
		})
	}
}

func finish(t *testing.T, w *running, k *masterLink) {
	t.Helper()
	k.drain(0)
	if n := k.drained(); n.Cut != 0 || n.InFlight != 0 || n.Open != 0 {
		t.Errorf("%+v", n)
	}
	w.wait()
}

// The first GOAWAY refuses nothing: a request that crosses it is answered, and
// so is an upload that is under way. The second names the last of them.
func TestGoAwayInTwoSteps(t *testing.T) {
	overBoth(t, echoes, func(t *testing.T, w *running, k *masterLink, connect func() *h2client) {
		c := connect()
		c.mute = true
		c.request(1, "/", false)
		c.answered(1)
		c.request(3, "/up", true)
		c.must(c.WriteData(3, false, make([]byte, 1000)))
		k.park()
		c.goAways(1)
		c.until("the PING", func() bool { return len(c.pings) == 1 })
		c.request(5, "/up", true) // it crosses the GOAWAY
		c.must(c.WriteData(5, true, make([]byte, 500)))
		c.must(c.WritePing(true, c.pings[0]))
		c.answered(5)
		c.goAways(2)
		c.must(c.WriteData(3, true, make([]byte, 1000)))
		c.answered(3)
		if c.bodies[3] != 2000 || c.bodies[5] != 500 {
			t.Errorf("answers of %v bytes", c.bodies)
		}
		c.wantAways(goaway.MaxStreamID, 5)
		begun := time.Now()
		c.wantEnd()                                           // although this client does not close
		if d := time.Since(begun); d < 500*time.Millisecond { // net/http waits for a second
			t.Errorf("closed after %v", d)
		}
		finish(t, w, k)
	})
}

// An idle client is told too, and one that closes is not waited for.
func TestGoAwayToIdleConnections(t *testing.T) {
	overBoth(t, workertest.Pong, func(t *testing.T, w *running, k *masterLink, connect func() *h2client) {
		asked, silent := connect(), connect()
		asked.request(1, "/", false)
		asked.answered(1)
		k.park()
		asked.goAways(2)
		asked.wantAways(goaway.MaxStreamID, 1)
		asked.c.Close()
		silent.goAways(2)
		silent.wantAways(goaway.MaxStreamID, 0)
		silent.c.Close()
		finish(t, w, k)
	})
}

// A worker that is active again lets those go that were told, and keeps the others.
func TestGoAwayThenActiveAgain(t *testing.T) {
	overBoth(t, workertest.Pong, func(t *testing.T, w *running, k *masterLink, connect func() *h2client) {
		c := connect()
		c.mute = true
		c.request(1, "/", false)
		c.answered(1)
		k.park()
		c.goAways(1)
		k.activate()
		c.request(3, "/", false)
		c.answered(3)
		kept := connect()
		kept.request(1, "/", false)
		kept.answered(1)
		c.must(c.WritePing(true, goaway.PingPayload))
		c.goAways(2)
		c.wantEnd()
		kept.request(3, "/", false)
		kept.answered(3)
		kept.wantAways()
		k.park()
		kept.goAways(2)
		kept.c.Close()
		finish(t, w, k)
	})
}

// An answer that waits for its window, and an upload, go on after the last GOAWAY.
func TestStreamsOutliveGoAway(t *testing.T) {
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		w.Write(make([]byte, 100_000+n))
	})
	overBoth(t, h, func(t *testing.T, w *running, k *masterLink, connect func() *h2client) {
		c := connect()
		c.request(1, "/", false)
		c.request(3, "/up", true)
		c.until("the window's end", func() bool { return c.bodies[1] == 65535 })
		k.park()
		c.goAways(2)
		c.wantAways(goaway.MaxStreamID, 3)
		c.must(c.WriteWindowUpdate(0, 1<<20))
		c.must(c.WriteWindowUpdate(1, 1<<20))
		c.must(c.WriteWindowUpdate(3, 1<<20))
		c.must(c.WriteData(3, true, make([]byte, 5000)))
		c.answered(1)
		c.answered(3)
		if c.bodies[1] != 100_000 || c.bodies[3] != 105_000 {
			t.Errorf("answers of %v bytes", c.bodies)
		}
		c.wantEnd()
		finish(t, w, k)
	})
}

// Who has just come is let be for a while.
func TestGoAwayWaitsForTheYoung(t *testing.T) {
	s := newSlot(t, "http")
	w, k := managed(t, func(w *Worker) { w.Handle("http", workertest.Pong, H2C()) })
	k.activate(s)
	c := h2On(t, workertest.Dial(t, s.addr).Conn)
	begun := time.Now()
	k.park()
	for stream := uint32(1); len(c.aways) == 0; stream += 2 {
		c.request(stream, "/", false)
		c.answered(stream)
		k.wait("a beat", func(ipc.Stats) bool { return true })
	}
	if d := time.Since(begun); d < goaway.MinAge*9/10 {
		t.Errorf("told after %v", d)
	}
	c.c.Close()
	finish(t, w, k)
}

// What is idle when a drain's time is nearly up is closed in a spread, and is no
// request that was cut.
func TestIdleConnectionsAreClosedInASpread(t *testing.T) {
	s := newSlot(t, "http")
	stuck, release := make(chan struct{}), make(chan struct{})
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/stuck" {
			close(stuck)
			<-release
		}
		io.WriteString(w, "ok")
	})
	w, k := managed(t, func(w *Worker) { w.Handle("http", h, TLS(workertest.WriteCertificate(t, t.TempDir(), 1))) })
	k.activate(s)
	const many = 60
	ended := make(chan time.Time, many)
	for i := range many {
		c := tls.Client(workertest.Dial(t, s.addr).Conn, &tls.Config{InsecureSkipVerify: true})
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		br := bufio.NewReader(c)
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		if i == 0 {
			io.WriteString(c, "GET /stuck HTTP/1.1\r\nHost: x\r\n\r\n")
			workertest.Comes(t, stuck)
		}
		go func() {
			br.ReadByte()
			ended <- time.Now()
		}()
	}
	k.drain(2 * time.Second)
	n := k.drained()
	close(release)
	w.wait()
	if n.Cut != many || n.CutRequests != 1 {
		t.Errorf("%+v", n)
	}
	var at []time.Time
	for range many {
		at = append(at, workertest.Comes(t, ended))
	}
	slices.SortFunc(at, time.Time.Compare)
	if d := at[many-2].Sub(at[0]); d < 250*time.Millisecond {
		t.Errorf("the idle ones were closed within %v", d)
	}
}

// The handler sees of a connection over TLS what net/http would show.
func TestHandlersSeeTLS(t *testing.T) {
	type key struct{}
	seen := make(chan error, 1)
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		local, _ := r.Context().Value(http.LocalAddrContextKey).(fmt.Stringer)
		_, isTLS := r.Context().Value(key{}).(*tls.Conn)
		_, hijacks := w.(http.Hijacker)
		switch {
		case r.TLS == nil || !r.TLS.HandshakeComplete || r.TLS.ServerName != "x":
			seen <- fmt.Errorf("TLS is %+v", r.TLS)
		case len(r.TLS.PeerCertificates) != 1 || r.TLS.PeerCertificates[0].SerialNumber.Int64() != 7:
			seen <- fmt.Errorf("the client's certificates are %v", r.TLS.PeerCertificates)
		case local == nil || !strings.HasPrefix(local.String(), "127.0.0.1:") || !strings.HasPrefix(r.RemoteAddr, "127.0.0.1:"):
			seen <- fmt.Errorf("addresses %v, %v", local, r.RemoteAddr)
		case !isTLS:
			seen <- fmt.Errorf("ConnContext got %T", r.Context().Value(key{}))
		case hijacks == (r.ProtoMajor == 2):
			seen <- fmt.Errorf("HTTP/%d is a Hijacker: %v", r.ProtoMajor, hijacks)
		default:
			seen <- nil
		}
		io.Copy(w, r.Body)
	})
	dir := t.TempDir()
	cert, key7 := workertest.WriteCertificate(t, dir, 7)
	pair, err := tls.LoadX509KeyPair(cert, key7)
	if err != nil {
		t.Fatal(err)
	}
	_, addr := alone(t, h, TLS(cert, key7), Server(func(s *http.Server) {
		s.TLSConfig.ClientAuth = tls.RequireAnyClientCert
		s.ReadTimeout, s.WriteTimeout = workertest.Patience, workertest.Patience
		s.ConnContext = func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, key{}, c) }
	}))
	for _, proto := range []string{"http/1.1", "h2"} {
		tr := &http.Transport{ForceAttemptHTTP2: proto == "h2", ExpectContinueTimeout: workertest.Patience, TLSClientConfig: &tls.Config{
			InsecureSkipVerify: true, ServerName: "x", Certificates: []tls.Certificate{pair}, NextProtos: []string{proto}}}
		req, _ := http.NewRequest("POST", "https://"+addr, strings.NewReader("body"))
		req.Header.Set("Expect", "100-continue")
		resp, err := (&http.Client{Transport: tr, Timeout: workertest.Patience}).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if string(b) != "body" || (resp.ProtoMajor == 2) != (proto == "h2") {
			t.Errorf("%s: %s, %q", proto, resp.Proto, b)
		}
		if err := workertest.Comes(t, seen); err != nil {
			t.Errorf("%s: %v", proto, err)
		}
		tr.CloseIdleConnections()
	}
}
