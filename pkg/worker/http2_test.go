//go:build linux

package worker

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/masterd/masterd/pkg/ipc"
	strict "github.com/masterd/masterd/test/load"
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
	overBothWithin(t, short, h, story)
}

// overBothWithin is overBoth with another time for each wait of a goodbye.
func overBothWithin(t *testing.T, longest time.Duration, h http.Handler, story func(t *testing.T, w *running, k *masterLink, connect func() *h2client)) {
	for _, kind := range []string{"h2c", "tls"} {
		t.Run(kind, func(t *testing.T) {
			s := newSlot(t, "http")
			opt, connect := H2C(), func() *h2client { return h2On(t, dial(t, s.addr).c) }
			if kind == "tls" {
				opt, connect = TLS(writeCertificate(t, t.TempDir(), 1)), func() *h2client { return h2TLS(t, s.addr) }
			}
			w, k := managed(t, func(w *Worker) {
				w.Handle("http", h, opt)
				w.traffic.partings.longest = longest
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
		c.wantAways(maxStreamID, 5)
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
	overBoth(t, pong, func(t *testing.T, w *running, k *masterLink, connect func() *h2client) {
		asked, silent := connect(), connect()
		asked.request(1, "/", false)
		asked.answered(1)
		k.park()
		asked.goAways(2)
		asked.wantAways(maxStreamID, 1)
		asked.c.Close()
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
		c.wantAways(maxStreamID, 3)
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

// Who does not answer the PING is told the rest some time later, and who opens
// streams all the same gets no answer to those after the second GOAWAY: it can
// rely on that nothing was done about them.
func TestGoAwayToWhoDisobeys(t *testing.T) {
	var late atomic.Bool
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/late" {
			late.Store(true)
		}
	})
	overBoth(t, h, func(t *testing.T, w *running, k *masterLink, connect func() *h2client) {
		c := connect()
		c.mute = true
		c.request(1, "/", false)
		c.answered(1)
		k.park()
		stream := uint32(3)
		for ; len(c.aways) < 2; stream += 2 {
			c.request(stream, "/", false)
			c.until("an answer", func() bool { return c.ended[stream] || len(c.aways) == 2 })
		}
		last := c.aways[1]
		c.request(stream, "/late", false)
		c.wantEnd()
		for id := uint32(1); id <= last; id += 2 {
			if !c.ended[id] {
				t.Errorf("stream %d of %d was not answered", id, last)
			}
		}
		c.wantAways(maxStreamID, last)
		finish(t, w, k)
		if late.Load() {
			t.Error("a stream after the last was served")
		}
	})
}

// A client that still sends, and has yet to read its answer, when the server has
// ended the connection, reads all of it.
func TestGoAwayLosesNoAnswerToSlowReaders(t *testing.T) {
	const size = 3 << 20
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write(make([]byte, size)) })
	overBoth(t, h, func(t *testing.T, w *running, k *masterLink, connect func() *h2client) {
		c := connect()
		c.must(c.WriteWindowUpdate(0, size))
		c.must(c.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: size}))
		c.request(1, "/", false)
		k.park()
		k.wait("the end of the answer", func(s ipc.Stats) bool { return s.Requests == 1 && s.InFlight == 0 })
		c.goAways(2)
		time.Sleep(1500 * time.Millisecond) // the server has ended it by then; if it has not, the rest is true as well
		for !c.ended[1] {
			c.must(c.WritePing(false, [8]byte{}))
			c.must(c.next())
		}
		c.answered(1)
		if c.bodies[1] != size {
			t.Errorf("%d bytes of %d", c.bodies[1], size)
		}
		c.wantEnd()
		c.c.Close()
		finish(t, w, k)
	})
}

// Frames that come a byte at a time are understood as well.
func TestGoAwayWithFramesInPieces(t *testing.T) {
	overBoth(t, echoes, func(t *testing.T, w *running, k *masterLink, connect func() *h2client) {
		c := connect()
		c.Framer = http2.NewFramer(inPieces{c.c}, c.c)
		c.AllowIllegalWrites = true
		c.request(1, "/up", true)
		c.must(c.WriteData(1, false, make([]byte, 100)))
		k.park()
		c.goAways(1)
		c.request(3, "/", false)
		c.goAways(2)
		c.must(c.WriteData(1, true, make([]byte, 100)))
		c.answered(1)
		c.answered(3)
		c.wantAways(maxStreamID, 3)
		c.wantEnd()
		finish(t, w, k)
	})
}

type inPieces struct{ net.Conn }

func (c inPieces) Write(b []byte) (int, error) {
	for i := range b {
		if n, err := c.Conn.Write(b[i : i+1]); err != nil {
			return i + n, err
		}
	}
	return len(b), nil
}

// Who has just come is let be for a while.
func TestGoAwayWaitsForTheYoung(t *testing.T) {
	s := newSlot(t, "http")
	w, k := managed(t, func(w *Worker) { w.Handle("http", pong, H2C()) })
	k.activate(s)
	c := h2On(t, dial(t, s.addr).c)
	begun := time.Now()
	k.park()
	for stream := uint32(1); len(c.aways) == 0; stream += 2 {
		c.request(stream, "/", false)
		c.answered(stream)
		k.wait("a beat", func(ipc.Stats) bool { return true })
	}
	if d := time.Since(begun); d < goAwayYoung*9/10 {
		t.Errorf("told after %v", d)
	}
	c.c.Close()
	finish(t, w, k)
}

// A strict client, which never sends again what it has begun, loses nothing
// however often the worker parks and is active again.
func TestUploadsWhileTheWorkerParks(t *testing.T) {
	// With the times as they are: a client that this machine is too slow for is
	// refused a stream otherwise, and rightly.
	overBothWithin(t, math.MaxInt64, echoes, func(t *testing.T, w *running, k *masterLink, connect func() *h2client) {
		probe := connect()
		addr, secure := probe.c.RemoteAddr().String(), false
		if _, ok := probe.c.(*tls.Conn); ok {
			secure = true
		}
		probe.c.Close()
		plan := strict.HTTP2{Addr: addr, Clients: 4, Streams: 3, Path: "/", Body: 20_000, Check: func(body []byte) error {
			if !bytes.Equal(body, strict.Body(20_000)) {
				return fmt.Errorf("%d bytes that were not sent", len(body))
			}
			return nil
		}}
		if secure {
			plan.TLS = &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan strict.HTTP2Result, 1)
		go func() { ended <- plan.Run(ctx) }()
		for range 10 {
			k.park()
			k.wait("some beats", after(goAwayYoung))
			k.activate()
			k.wait("some beats", after(short))
		}
		stop()
		r := <-ended
		t.Logf("%+v", r)
		if r.Failed != 0 || r.Uploads == 0 || r.Warned < 10 {
			t.Errorf("%+v", r)
		}
		finish(t, w, k)
	})
}

// after is true some time later.
func after(d time.Duration) func(ipc.Stats) bool {
	begun := time.Now()
	return func(ipc.Stats) bool { return time.Since(begun) > d }
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
	w, k := managed(t, func(w *Worker) { w.Handle("http", h, TLS(writeCertificate(t, t.TempDir(), 1))) })
	k.activate(s)
	const many = 60
	ended := make(chan time.Time, many)
	for i := range many {
		c := tls.Client(dial(t, s.addr).c, &tls.Config{InsecureSkipVerify: true})
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		br := bufio.NewReader(c)
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		if i == 0 {
			io.WriteString(c, "GET /stuck HTTP/1.1\r\nHost: x\r\n\r\n")
			<-stuck
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
		at = append(at, <-ended)
	}
	slices.SortFunc(at, time.Time.Compare)
	if d := at[many-2].Sub(at[0]); d < 250*time.Millisecond {
		t.Errorf("the idle ones were closed within %v", d)
	}
}

// Nothing may come between HEADERS and their CONTINUATIONs, wherever that is.
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
		k.recv(ipc.TypeParked)
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
