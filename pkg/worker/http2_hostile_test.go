//go:build linux

package worker

import (
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/worker/internal/goaway"
	"github.com/masterd/masterd/pkg/worker/internal/workertest"
)

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
		c.wantAways(goaway.MaxStreamID, last)
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
		c.must(c.WriteSettings(workertest.InitialWindowSize, size))
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
		c.Framer = workertest.NewFramer(inPieces{c.c}, c.c)
		c.request(1, "/up", true)
		c.must(c.WriteData(1, false, make([]byte, 100)))
		k.park()
		c.goAways(1)
		c.request(3, "/", false)
		c.goAways(2)
		c.must(c.WriteData(1, true, make([]byte, 100)))
		c.answered(1)
		c.answered(3)
		c.wantAways(goaway.MaxStreamID, 3)
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
			block.must(block.WriteFrame(workertest.FrameHeaders, 0, 3, block.fields("/")))
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
		polite.wantAways(goaway.MaxStreamID, 1)
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
	w, k := managed(t, func(w *Worker) { w.Handle("http", workertest.Pong, H2C()) })
	k.activate(s)
	all := make([]*h2client, many)
	for i := range all {
		all[i] = h2On(t, workertest.Dial(t, s.addr).Conn)
		all[i].request(1, "/", false)
		all[i].answered(1)
		if i%50 == 0 {
			k.hear()
		}
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
		case <-time.After(workertest.Patience):
			t.Fatalf("only %d were told\n", len(at))
		}
	}
	slices.SortFunc(at, time.Time.Compare)
	spread := at[many-1].Sub(at[0])
	if least := (many/goaway.BatchSize - 1) * goaway.BatchInterval / 2; spread < least {
		t.Errorf("all within %v", spread)
	}
	t.Logf("%d connections told within %v", many, spread)
	finish(t, w, k)
}
