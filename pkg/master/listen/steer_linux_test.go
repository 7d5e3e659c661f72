package listen

import (
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/sockdiag"
)

// Whatever the kind of address: connections go by weight and nowhere else, and
// a check reaches exactly its slot.
func TestSteering(t *testing.T) {
	for name, c := range addrs(t) {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, c)
			for slot := range 4 {
				w.man(slot, "http")
			}
			w.man(testSlots-1, "http")
			if st := w.Status()[0]; st.Steering == shared || st.QueueLimit != 256 {
				t.Fatalf("status is %+v", st)
			}

			w.steer(Share{Slot: 3, Weight: 1})
			if got := count(t, network(c), w.reachable("http"), 100); got["3"] != 100 {
				t.Errorf("all to slot 3: %v", got)
			}
			w.steer(Share{Slot: 1, Weight: 3}, Share{Slot: 2, Weight: 1})
			got := count(t, network(c), w.reachable("http"), 400)
			switch {
			case c.Network == "unix":
				if got["1"] != 400 {
					t.Errorf("the heaviest takes all of a Unix socket: %v", got)
				}
				if st := w.Status()[0]; st.Reason == "" {
					t.Error("status does not say that weights cannot be had")
				}
			case got["1"]+got["2"] != 400 || got["1"] < 240 || got["1"] > 360:
				t.Errorf("three to one: %v", got)
			}
			for _, slot := range []int{0, 1, 2, 3, testSlots - 1} {
				for range 3 {
					if who, err := w.probe(slot, "http"); err != nil || who != strconv.Itoa(slot) {
						t.Errorf("a check of slot %d reached %q, %v", slot, who, err)
					}
				}
			}
		})
	}
}

// A dual-stack socket takes IPv4, with its checks too.
func TestDualStack(t *testing.T) {
	c, ok := addrs(t)["all addresses"]
	if !ok {
		t.Skip("no IPv6 here")
	}
	w := newWorld(t, c)
	w.man(0, "http")
	w.man(1, "http")
	w.steer(Share{Slot: 1, Weight: 1})
	_, port, _ := net.SplitHostPort(w.Addr("http"))
	for _, host := range []string{"127.0.0.1", "::1"} {
		if got := count(t, "tcp", net.JoinHostPort(host, port), 50); got["1"] != 50 {
			t.Errorf("%s: %v", host, got)
		}
	}
}

// load is a strict client: a connection that fails is a failure.
type load struct {
	asked, failed atomic.Int64
	first         atomic.Pointer[string]
	answers       sync.Map // by who has answered: *atomic.Int64
	stop          chan struct{}
	wait          sync.WaitGroup
}

func startLoad(clients int, network, addr string) *load {
	l := &load{stop: make(chan struct{})}
	for range clients {
		l.wait.Go(func() {
			for {
				select {
				case <-l.stop:
					return
				default:
				}
				who, err := ask(network, addr)
				l.asked.Add(1)
				n, _ := l.answers.LoadOrStore(who, new(atomic.Int64))
				n.(*atomic.Int64).Add(1)
				if err != nil {
					text := err.Error()
					l.first.CompareAndSwap(nil, &text)
					l.failed.Add(1)
				}
			}
		})
	}
	return l
}

// by is how many were answered by somebody.
func (l *load) by(who string) int64 {
	if n, ok := l.answers.Load(who); ok {
		return n.(*atomic.Int64).Load()
	}
	return 0
}

func (l *load) end(t *testing.T) {
	t.Helper()
	close(l.stop)
	l.wait.Wait()
	if l.failed.Load() > 0 {
		t.Errorf("%d of %d failed, the first: %s", l.failed.Load(), l.asked.Load(), *l.first.Load())
	}
	if l.asked.Load() == 0 {
		t.Error("nothing was asked")
	}
	t.Logf("%d asked", l.asked.Load())
}

// A generation after the other: each is given its slot, then the traffic; the
// one before leaves its slot with whatever is in it.
func TestRolloverLosesNobody(t *testing.T) {
	for _, c := range []config.Listener{tcp("http", "127.0.0.1"), onPath("http", t.TempDir()+"/s")} {
		t.Run(c.Network, func(t *testing.T) {
			w := newWorld(t, c)
			w.host()
			active := w.man(0, "http")
			w.steer(Share{Slot: 0, Weight: 1})
			l := startLoad(4, network(c), w.reachable("http"))
			free := make(chan int, testSlots)
			for slot := 1; slot < testSlots; slot++ {
				free <- slot
			}
			for range 100 {
				var slot int
				for slot == 0 {
					select {
					case slot = <-free:
					case slot = <-w.quiet:
					}
				}
				next := w.man(slot, "http")
				w.steer(Share{Slot: slot, Weight: 1})
				active.stop() // at once: what is queued must be found there
				w.Quarantine(active.slot)
				active = next
			}
			l.end(t)
		})
	}
}

// Switching is all that happens: there and back, 300 times for TCP, 1000 for a
// path.
func TestSwitchingLosesNobody(t *testing.T) {
	for n, c := range map[int]config.Listener{300: tcp("http", "127.0.0.1"), 1000: onPath("http", t.TempDir()+"/s")} {
		t.Run(fmt.Sprint(c.Network, n), func(t *testing.T) {
			w := newWorld(t, c)
			w.man(0, "http")
			w.man(1, "http")
			w.steer(Share{Slot: 0, Weight: 1})
			l := startLoad(4, network(c), w.reachable("http"))
			for i := range n {
				before := l.asked.Load()
				w.steer(Share{Slot: (i + 1) % 2, Weight: 1})
				if i%10 == 0 {
					eventually(t, "somebody asked meanwhile", func() bool { return l.asked.Load() > before })
				}
			}
			l.end(t)
		})
	}
}

// Nobody is asked before the first is steered to; then nobody is forgotten.
func TestConnectionsWaitForTheFirst(t *testing.T) {
	for name, c := range map[string]config.Listener{"tcp": tcp("http", "127.0.0.1"), "unix": onPath("http", t.TempDir()+"/s")} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, c)
			var early []net.Conn
			for range 20 {
				conn, err := net.Dial(network(c), w.reachable("http"))
				if err != nil {
					t.Fatal(err)
				}
				early = append(early, conn)
			}
			eventually(t, "they wait", func() bool { return w.Status()[0].Queue == 20 })
			w.man(0, "http")
			if n := len(w.orphans) + len(w.own); n > 0 {
				t.Fatalf("%d were taken before there was anybody for them", n)
			}
			w.host()
			w.steer(Share{Slot: 0, Weight: 1})
			for _, conn := range early {
				if who, err := question(conn); err != nil || who != "orphan" {
					t.Errorf("%q, %v", who, err)
				}
			}
			if who, err := ask(network(c), w.reachable("http")); err != nil || who != "0" {
				t.Errorf("%q, %v", who, err)
			}
		})
	}
}

// Nobody is alive: the master takes connections, until somebody is.
func TestNobodyAlive(t *testing.T) {
	one := tcp("http", "127.0.0.1")
	one.Steering = "shared"
	for name, c := range map[string]config.Listener{"kernel": tcp("http", "127.0.0.1"), "unix": onPath("http", t.TempDir()+"/s"), "shared": one} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, c)
			k := w.man(0, "http")
			w.steer(Share{Slot: 0, Weight: 1})
			if got := count(t, network(c), w.reachable("http"), 5); got["0"] != 5 {
				t.Fatal(got)
			}
			k.stop()
			w.Quarantine(0)
			w.steer()
			client, err := net.Dial(network(c), w.reachable("http"))
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			go serve(receive(t, "the master's own connection", w.own), "master")
			if who, err := question(client); err != nil || who != "master" {
				t.Fatalf("%q, %v", who, err)
			}
			receive(t, "quiet", w.quiet)
			w.man(1, "http")
			w.steer(Share{Slot: 1, Weight: 1})
			if got := count(t, network(c), w.reachable("http"), 20); got["1"] != 20 {
				t.Error(got)
			}
		})
	}
}

// Only assigned slots count, and a listener that none of them mans stays as it was.
func TestSharesWithoutAWorker(t *testing.T) {
	w := newWorld(t, tcp("http", "127.0.0.1"), tcp("debug", "127.0.0.1"))
	w.man(0, "http", "debug")
	w.man(1, "http")
	w.steer(Share{Slot: 0, Weight: 1})
	w.steer(Share{Slot: 1, Weight: 1}, Share{Slot: 5, Weight: 100}) // nobody is in 5, and 1 does not have debug
	if got := count(t, "tcp", w.Addr("http"), 20); got["1"] != 20 {
		t.Error("http:", got)
	}
	if got := count(t, "tcp", w.Addr("debug"), 20); got["0"] != 20 {
		t.Error("debug:", got)
	}
	for _, bad := range []Share{{Slot: testSlots, Weight: 1}, {Slot: -1, Weight: 1}, {Slot: 0, Weight: 0}} {
		if err := w.Steer([]Share{bad}, 0); err == nil {
			t.Errorf("steering to %+v was accepted", bad)
		}
	}
}

func BenchmarkSteer(b *testing.B) {
	for _, network := range []string{"tcp", "unix"} {
		b.Run(network, func(b *testing.B) {
			c := tcp("http", "127.0.0.1")
			if network == "unix" {
				c = onPath("http", b.TempDir()+"/s")
			}
			set, err := Open(Options{Listeners: []config.Listener{c}, Slots: testSlots})
			if err != nil {
				b.Fatal(err)
			}
			defer set.Close()
			for slot := range 2 {
				files, err := set.Man(slot, []string{"http"}, testGeneration)
				if err != nil {
					b.Fatal(err)
				}
				closeFD(files[0].FD)
			}
			for i := 0; b.Loop(); i++ {
				if err := set.Steer([]Share{{Slot: i % 2, Weight: 1}}, 0); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkHandshakes(b *testing.B) {
	for b.Loop() {
		if _, err := sockdiag.Handshakes(true); err != nil {
			b.Fatal(err)
		}
	}
}
