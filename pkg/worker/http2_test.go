//go:build linux

package worker

import (
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
)

// echoes answers with as many bytes as came, when all have come.
var echoes = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	w.Write(b)
})

// overBoth runs a story over HTTP/2 with and without TLS.
func overBoth(t *testing.T, h http.Handler, story func(t *testing.T, w *running, k *masterLink, connect func() *h2client)) {
	for _, kind := range []string{"h2c", "tls"} {
		t.Run(kind, func(t *testing.T) {
			s := newSlot(t, "http")
			opt, connect := H2C(), func() *h2client { return h2On(t, dial(t, s.addr).c) }
			if kind == "tls" {
				opt, connect = TLS(writeCertificate(t, t.TempDir(), 1)), func() *h2client { return h2TLS(t, s.addr) }
			}
			w, k := managed(t, func(w *Worker) { w.Handle("http", h, opt) })
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
		c.wantAways(maxStreamID, 5)
		begun := time.Now()
		c.wantEnd() // although this client does not close
		if d := time.Since(begun); d < 500*time.Millisecond { // net/http waits for a second
			t.Errorf("closed after %v", d)
		}
		finish(t, w, k)
	})
}

// An idle client is told too, and one that closes is not waited for.
func TestGoAwayToIdleConnections(t *testing.T) {
	overBoth(t, pong, func(t *testing.T, w *running, k *masterLink, connect func() *h2client) {
		asked, silent := connect(), connect()
		asked.request(1, "/", false)
		asked.answered(1)
		k.park()
		asked.goAways(2)
		asked.wantAways(maxStreamID, 1)
		asked.c.Close()
		// Who has never asked is let be for a while, then told.
		silent.goAways(2)
		silent.wantAways(maxStreamID, 0)
		silent.c.Close()
		finish(t, w, k)
	})
}

// A worker that is active again lets those go that were told, and keeps the others.
func TestGoAwayThenActiveAgain(t *testing.T) {
	overBoth(t, pong, func(t *testing.T, w *running, k *masterLink, connect func() *h2client) {
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
		c.must(c.WritePing(true, barrier))
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

// A client that comes while the worker leaves gets an answer before a goodbye.
func TestGoAwayWaitsForTheFirstStream(t *testing.T) {
	overBoth(t, pong, func(t *testing.T, w *running, k *masterLink, connect func() *h2client) {
		k.park()
		c := connect()
		c.request(1, "/", false)
		c.goAways(2)
		c.answered(1)
		c.wantAways(maxStreamID, 1)
		c.c.Close()
		finish(t, w, k)
	})
}

// Nothing may come between HEADERS and their CONTINUATIONs, and an answer whose
// client does not take it goes on after GOAWAY.
func TestGoAwayWhileAnswersAreWritten(t *testing.T) {
	const size = 1 << 20
	huge := strings.Repeat("h", 60<<10)
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Huge", huge)
		w.Write(make([]byte, size))
	})
	overBoth(t, h, func(t *testing.T, w *running, k *masterLink, connect func() *h2client) {
		c := connect()
		stop := make(chan struct{})
		go func() {
			time.Sleep(5 * time.Millisecond) // somewhere in the middle; wherever that is must do
			k.send(ipc.Message{Type: ipc.TypePark})
			close(stop)
		}()
		stream := uint32(1)
		for len(c.aways) < 2 {
			if stream < 200 {
				c.request(stream, "/", false)
			}
			c.must(c.WriteWindowUpdate(0, size))
			c.must(c.WriteWindowUpdate(stream, size))
			c.answered(stream)
			if c.bodies[stream] != size {
				t.Fatalf("%d bytes of %d", c.bodies[stream], size)
			}
			if len(c.aways) > 0 {
				c.goAways(2)
			}
			stream += 2
		}
		<-stop
		// Blocked by its window.
		c.request(stream, "/", false)
		c.until("the window's end", func() bool { return c.bodies[stream] == 65535 })
		c.must(c.WriteWindowUpdate(0, size))
		c.must(c.WriteWindowUpdate(stream, size))
		c.answered(stream)
		c.c.Close()
		finish(t, w, k)
	})
}

// What clients may do to a connection that leaves costs nobody else anything.
func TestHostileClientsOfGoAway(t *testing.T) {
	overBoth(t, echoes, func(t *testing.T, w *running, k *masterLink, connect func() *h2client) {
		const each = 4
		var all []*h2client
		for range each {
			half := connect() // a part of a frame, then nothing
			half.request(1, "/", false)
			half.answered(1)
			half.c.Write([]byte{0, 0, 200, 1, 4})
			block := connect() // a header block without an end
			block.request(1, "/", false)
			block.answered(1)
			block.must(block.WriteRawFrame(1, 0, 3, block.fields("/")))
			flood := connect() // of PINGs and SETTINGS, unread
			flood.request(1, "/", false)
			flood.answered(1)
			go func() {
				for flood.WritePing(false, [8]byte{}) == nil && flood.WriteSettings() == nil {
				}
			}()
			gone := connect()
			gone.request(1, "/up", true)
			all = append(all, half, block, flood, gone)
		}
		polite := connect()
		polite.request(1, "/", false)
		polite.answered(1)
		k.park()
		for i, c := range all {
			if i%4 == 3 {
				c.c.Close()
			}
		}
		polite.goAways(2)
		polite.wantAways(maxStreamID, 1)
		polite.c.Close()
		k.drain(500 * time.Millisecond)
		if n := k.drained(); n.Open != 0 || n.Cut == 0 {
			t.Errorf("%+v", n)
		}
		w.wait()
	})
}

// Clients that are gone at any moment of a goodbye leave nothing behind.
func TestClientsThatCloseDuringGoAway(t *testing.T) {
	overBoth(t, echoes, func(t *testing.T, w *running, k *masterLink, connect func() *h2client) {
		const many = 40
		var all []*h2client
		for range many {
			c := connect()
			c.request(1, "/", false)
			c.answered(1)
			all = append(all, c)
		}
		k.park()
		for i, c := range all {
			switch i % 4 {
			case 1:
				c.goAways(1)
			case 2:
				c.goAways(2)
			case 3:
				c.request(3, "/up", true)
				c.goAways(1)
			}
			c.c.Close()
		}
		finish(t, w, k)
	})
}

// Many leave in groups, not all in one instant, and all are gone at the end.
func TestManyGoAways(t *testing.T) {
	const many = 1000
	s := newSlot(t, "http")
	w, k := managed(t, func(w *Worker) { w.Handle("http", pong, H2C()) })
	k.activate(s)
	all := make([]*h2client, many)
	for i := range all {
		all[i] = h2On(t, dial(t, s.addr).c)
		all[i].request(1, "/", false)
		all[i].answered(1)
	}
	k.park()
	told := make(chan time.Time, many)
	for _, c := range all {
		go func() {
			defer c.c.Close()
			for len(c.aways) < 1 {
				if c.next() != nil {
					return
				}
			}
			told <- time.Now()
			for len(c.aways) < 2 && c.next() == nil {
			}
		}()
	}
	var at []time.Time
	for range many {
		select {
		case when := <-told:
			at = append(at, when)
		case <-time.After(patience):
			t.Fatalf("only %d were told\n", len(at))
		}
	}
	slices.SortFunc(at, time.Time.Compare)
	spread := at[many-1].Sub(at[0])
	if least := (many/goAwayGroup - 1) * goAwayTick / 2; spread < least {
		t.Errorf("all within %v", spread)
	}
	t.Logf("%d connections told within %v", many, spread)
	finish(t, w, k)
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
	cert, key7 := writeCertificate(t, dir, 7)
	pair, err := tls.LoadX509KeyPair(cert, key7)
	if err != nil {
		t.Fatal(err)
	}
	_, addr := alone(t, h, TLS(cert, key7), Server(func(s *http.Server) {
		s.TLSConfig.ClientAuth = tls.RequireAnyClientCert
		s.ReadTimeout, s.WriteTimeout = patience, patience
		s.ConnContext = func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, key{}, c) }
	}))
	for _, proto := range []string{"http/1.1", "h2"} {
		tr := &http.Transport{ForceAttemptHTTP2: proto == "h2", ExpectContinueTimeout: patience, TLSClientConfig: &tls.Config{
			InsecureSkipVerify: true, ServerName: "x", Certificates: []tls.Certificate{pair}, NextProtos: []string{proto}}}
		req, _ := http.NewRequest("POST", "https://"+addr, strings.NewReader("body"))
		req.Header.Set("Expect", "100-continue")
		resp, err := (&http.Client{Transport: tr, Timeout: patience}).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if string(b) != "body" || (resp.ProtoMajor == 2) != (proto == "h2") {
			t.Errorf("%s: %s, %q", proto, resp.Proto, b)
		}
		if err := <-seen; err != nil {
			t.Errorf("%s: %v", proto, err)
		}
		tr.CloseIdleConnections()
	}
}
