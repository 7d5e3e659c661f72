//go:build linux

package migrate

import (
	"math"
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/ipc/fdpass"
	"github.com/masterd/masterd/pkg/worker/internal/workertest"
)

// crowd has so many clients that wait.
func (s *stage) crowd(n int) (clients []*workertest.Client, conns []*Conn) {
	s.t.Helper()
	for range n {
		k, c := s.connect(&net.Dialer{})
		clients, conns = append(clients, k), append(conns, c)
	}
	s.wait(conns)
	return clients, conns
}

// wait waits until the server waits for all of them.
func (s *stage) wait(conns []*Conn) {
	s.t.Helper()
	workertest.Eventually(s.t, "all of them are idle", func() bool {
		for _, c := range conns {
			c.mu.Lock()
			waiting := c.waiting || c.migrated
			c.mu.Unlock()
			if !waiting {
				return false
			}
		}
		return true
	})
}

// split tells the old one of a share, and waits until it has gone.
func (s *stage) split(share ipc.Split) {
	s.t.Helper()
	s.give(&share)
	workertest.Eventually(s.t, "all that are to go have gone", s.old.asked)
}

// gone is how many of them are the new one's.
func gone(conns []*Conn) (n int) {
	for _, c := range conns {
		if c.hasMoved() {
			n++
		}
	}
	return n
}

func (c *Conn) hasMoved() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.migrated
}

// forget has the connections know of no draw.
func forget(conns []*Conn) {
	for _, c := range conns {
		c.mu.Lock()
		c.lot = lot{}
		c.mu.Unlock()
	}
}

// about wants so many, give or take six standard deviations: one run in 500 million fails.
func about(t *testing.T, what string, got, of int, p float64) {
	t.Helper()
	want, sigma := float64(of)*p, math.Sqrt(float64(of)*p*(1-p))
	if math.Abs(float64(got)-want) > 6*sigma {
		t.Errorf("%s: %d of %d, want %.0f +- %.0f", what, got, of, want, 6*sigma)
	}
}

// answeredAll wants an answer on each connection, wherever it is.
func answeredAll(t *testing.T, clients []*workertest.Client) {
	t.Helper()
	for i, k := range clients {
		if got, closing, err := k.Do("POST", "/", "x"); err != nil || got != "POSTx" || closing {
			t.Fatalf("client %d: %q, close %v, %v", i, got, closing, err)
		}
	}
}

func TestAShareOfIdleConnectionsMoves(t *testing.T) {
	s := newServers(t, "127.0.0.1:0")
	defer s.end()
	const n = 1000
	clients, conns := s.crowd(n)
	s.split(ipc.Split{Rollout: 1, Weight: 1000})
	first := gone(conns)
	about(t, "at 10 %", first, n, 0.1)
	for range 20 {
		s.split(ipc.Split{Rollout: 1, Weight: 1000})
	}
	answeredAll(t, clients) // and then each is idle again
	s.wait(conns)
	if got := gone(conns); got != first {
		t.Errorf("told again, %d have gone instead of %d", got, first)
	}
	s.split(ipc.Split{Rollout: 1, Weight: 5000})
	about(t, "at 50 %, of those that stayed at 10 %", gone(conns)-first, n-first, 0.4/0.9)
	about(t, "at 50 %, of all", gone(conns), n, 0.5)

	before := gone(conns)
	s.split(ipc.Split{Rollout: 1, Weight: 1000}) // never sent
	if got := gone(conns); got != before {
		t.Errorf("%d have gone at a weight that is less", got-before)
	}
	s.split(ipc.Split{Rollout: 2, Weight: 1000})
	about(t, "in another rollout, of those that stayed", gone(conns)-before, n-before, 0.1)

	// It is the lot that keeps them: without it each telling draws again.
	before = gone(conns)
	forget(conns)
	s.split(ipc.Split{Rollout: 2, Weight: 5000})
	forget(conns)
	s.split(ipc.Split{Rollout: 2, Weight: 5000})
	about(t, "drawn twice at 50 %", gone(conns)-before, n-before, 0.75)

	s.give(nil)
	workertest.Eventually(t, "the rest has gone", func() bool { return gone(conns) == n })
	if got := s.old.Migrated(); got != n {
		t.Errorf("%d are counted", got)
	}
	answeredAll(t, clients)
}

// For those that are accepted while a share is told, the kernel has drawn.
func TestWhatIsAcceptedWithinAShareStays(t *testing.T) {
	s := newServers(t, "127.0.0.1:0")
	defer s.end()
	s.split(ipc.Split{Rollout: 1, Weight: 5000})
	const n = 600
	_, conns := s.crowd(n)
	s.old.Stop() // the master has lost sight of the other
	_, more := s.crowd(n)
	conns = append(conns, more...)
	s.split(ipc.Split{Rollout: 1, Weight: 5000})
	if got := gone(conns); got != 0 {
		t.Fatalf("%d have gone, for which the kernel had drawn", got)
	}
	s.split(ipc.Split{Rollout: 1, Weight: 7500})
	about(t, "at 75 %, of those that stayed at 50 %", gone(conns), 2*n, 0.5)

	before := gone(conns)
	forget(conns)
	s.split(ipc.Split{Rollout: 1, Weight: 7500})
	about(t, "as if the kernel had not drawn", gone(conns)-before, 2*n-before, 0.75)
	_, conns = s.crowd(1)
	s.split(ipc.Split{Rollout: 1, Weight: ipc.Whole})
	workertest.Eventually(t, "all go at the whole weight", func() bool { return gone(conns) == 1 })
	_, conns = s.crowd(1)
	workertest.Eventually(t, "one that comes then, too", func() bool { return gone(conns) == 1 })
}

func TestABusyConnectionOfTheShareMovesWhenItIsIdle(t *testing.T) {
	s := newServers(t, "127.0.0.1:0")
	defer s.end()
	var conns []*Conn
	var clients []*workertest.Client
	for number := range uint32(2) {
		k, c := s.connect(&net.Dialer{})
		c.mu.Lock()
		c.lot = lot{1, number}
		c.mu.Unlock()
		if err := k.Write("GET", "/wait", ""); err != nil {
			t.Fatal(err)
		}
		clients, conns = append(clients, k), append(conns, c)
	}
	workertest.Eventually(t, "both requests run", func() bool { return s.running.Load() == 2 })
	s.split(ipc.Split{Rollout: 1, Weight: 1})
	if got := gone(conns); got != 0 {
		t.Fatalf("%d have gone, whose requests run", got)
	}
	close(s.release)
	for _, k := range clients {
		if got, closing, err := k.Read(); err != nil || got != "GET" || closing {
			t.Fatalf("%q, close %v, %v", got, closing, err)
		}
	}
	workertest.Eventually(t, "the one of the share has gone", conns[0].hasMoved)
	s.wait(conns)
	if conns[1].hasMoved() {
		t.Error("so has the other")
	}
	answeredAll(t, clients)
}

// With a salt those go whose address says so, and whose connections come later, too: they
// were on their way when the kernel was told.
func TestAShareOfClientsMoves(t *testing.T) {
	for _, at := range []string{"127.0.0.1:0", "[::]:0"} { // of the second, IPv4 clients have mapped addresses
		s := newServers(t, at)
		defer s.end()
		var conns []*Conn
		var clients []*workertest.Client
		add := func(n int) {
			for range n {
				// Not every machine has IPv6, but each has a whole network of loopbacks.
				client := net.IPv4(127, byte(1+rand.IntN(250)), byte(rand.IntN(250)), byte(1+rand.IntN(250)))
				k, c := s.connect(&net.Dialer{LocalAddr: &net.TCPAddr{IP: client}})
				clients, conns = append(clients, k), append(conns, c)
			}
			s.wait(conns)
		}
		add(200)
		want := func(salt, weight uint32) {
			t.Helper()
			s.split(ipc.Split{Rollout: 7, Weight: weight, Salt: salt})
			for _, c := range conns {
				if c.hasMoved() != belongs(c, salt, weight) {
					t.Errorf("%v at weight %d: it has moved: %v", c.stream.RemoteAddr(), weight, c.hasMoved())
				}
			}
		}
		for _, weight := range []uint32{1, 1000, 1000, 5000} {
			want(7, weight)
		}
		about(t, "at 50 %", gone(conns), 200, 0.5)
		add(50)
		want(7, 5000)
		want(7, 9000)
		answeredAll(t, clients)
		// Another salt chooses others.
		before := gone(conns)
		s.split(ipc.Split{Rollout: 8, Weight: 9000, Salt: 8})
		if gone(conns) == before {
			t.Error("another salt chooses the same")
		}
	}
}

// belongs tells whether the rule has the connection go.
func belongs(c *Conn, salt, weight uint32) bool {
	addr := netip.MustParseAddrPort(c.stream.RemoteAddr().String()).Addr()
	return uint64(ipc.StickyHash(salt, addr))*ipc.Whole < uint64(weight)<<32
}

// Whoever is to take them hangs, and then its link ends: they stay, are answered, and go once
// there is somebody, without another draw.
func TestAShareStaysWhileNobodyTakesIt(t *testing.T) {
	s := newServers(t, "127.0.0.1:0")
	defer s.end()
	clients, conns := s.crowd(200)
	share := ipc.Split{Rollout: 1, Weight: 5000}
	hung := s.giveTo(&share)
	workertest.Eventually(t, "the way is stalled", func() bool { return s.old.count.Load() == 0 && !s.old.Ready() })
	answeredAll(t, clients)
	hung.Close()
	workertest.Eventually(t, "the way is gone", func() bool { return len(s.old.PeerIDs()) == 0 })
	answeredAll(t, clients)
	s.wait(conns)
	drawn := 0
	for _, c := range conns {
		c.mu.Lock()
		if c.lot.rollout != 1 {
			t.Error("one has not drawn")
		} else if c.lot.number < share.Weight {
			drawn++
		}
		c.mu.Unlock()
	}
	if got := gone(conns); got != 0 {
		t.Fatalf("%d have gone to nobody", got)
	}
	s.split(share)
	if got := gone(conns); got != drawn {
		t.Errorf("%d have gone, %d had been drawn", got, drawn)
	}
	answeredAll(t, clients)
}

// The taker dies with offers that it has taken, at any moment.
func TestATakerOfAShareThatDiesCostsNothing(t *testing.T) {
	s := newServers(t, "127.0.0.1:0")
	defer s.end()
	clients, conns := s.crowd(300)
	for weight := uint32(500); weight <= 9000; weight += 500 {
		share := ipc.Split{Rollout: 1, Weight: weight}
		link := s.giveTo(&share)
		m, fds, err := link.Recv()
		fdpass.Close(fds...)
		if err != nil || m.Type != ipc.TypeOffer {
			t.Fatalf("%+v, %v", m, err)
		}
		if rand.IntN(2) == 0 {
			if err := link.Send(ipc.Message{Type: ipc.TypeTaken, Seq: m.Seq}); err != nil {
				t.Fatal(err)
			}
		}
		link.Close()
		workertest.Eventually(t, "the way is gone", func() bool { return len(s.old.PeerIDs()) == 0 })
	}
	// What was the taker's already has ended with it. The others are served.
	s.wait(conns)
	served := 0
	for i, c := range conns {
		if !c.hasMoved() {
			answeredAll(t, clients[i:i+1])
			served++
		}
	}
	if served == 0 {
		t.Error("all were given to a taker that was dying")
	}
}
