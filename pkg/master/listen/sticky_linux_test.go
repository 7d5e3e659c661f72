package listen

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"reflect"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/listen/steer"
)

// At one weight a client meets one version, and who has met the candidate stays with it.
func TestStickyClients(t *testing.T) {
	testSticky(t, tcp("http", "127.0.0.1"), "127.0.0.1", func(i int) netip.Addr {
		return netip.AddrFrom4([4]byte{127, 1 + byte(i>>16), byte(i >> 8), byte(i)})
	})
}

// IPv6 has one loopback address: more of them are in a network namespace of its own.
func TestStickyIPv6Clients(t *testing.T) {
	if os.Getenv(asInner) == "" {
		rerun(t, &syscall.SysProcAttr{
			Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNET,
			UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
		})
		return
	}
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	if err == nil {
		_, ours, _ := net.ParseCIDR("2001:db8::/32")
		err = netlink.RouteAdd(&netlink.Route{LinkIndex: lo.Attrs().Index, Dst: ours, Table: unix.RT_TABLE_LOCAL, Type: unix.RTN_LOCAL})
	}
	if err != nil {
		t.Skip("no IPv6 addresses of our own: ", err)
	}
	near := func(i int) netip.Addr { // some differ in the network, some in the host
		a := netip.MustParseAddr("2001:db8::1000").As16()
		at := 14
		if i%2 == 0 {
			at = 5
		}
		a[at], a[at+1] = byte(i>>8), byte(i)
		return netip.AddrFrom16(a)
	}
	t.Run("IPv6", func(t *testing.T) {
		testSticky(t, config.Listener{Name: "http", Network: "tcp6", Backlog: 256}, "2001:db8::1", near)
	})
	t.Run("dual-stack", func(t *testing.T) {
		testSticky(t, tcp("http", ""), "2001:db8::1", near)
		testSticky(t, tcp("http", ""), "127.0.0.1", func(i int) netip.Addr {
			return netip.AddrFrom4([4]byte{127, 1, byte(i >> 8), byte(i)})
		})
	})
}

func testSticky(t *testing.T, c config.Listener, host string, client func(i int) netip.Addr) {
	t.Helper()
	w := newWorld(t, c)
	for slot := range 5 {
		w.man(slot, "http")
	}
	_, port, _ := net.SplitHostPort(w.Addr("http"))
	addr := net.JoinHostPort(host, port)
	const salt = 17
	clients, connections := upTo(200, 2000), upTo(2, 5)
	met := make([]bool, clients) // the candidate
	for _, weight := range []uint32{100, 1000, 5000} {
		if err := w.Steer(canaryAt(weight), salt); err != nil {
			t.Fatal(err)
		}
		got := each(t, clients*connections, func(i int) (string, error) { return askFrom(client(i%clients), addr) })
		by, n := map[string]int{}, 0
		for i := range clients {
			candidate := got[i] == "2" || got[i] == "3"
			for k := i; k < len(got); k += clients {
				by[got[k]]++
				if (got[k] == "2" || got[k] == "3") != candidate {
					t.Errorf("%s meets both versions with weight %d", client(i), weight)
					break
				}
			}
			if met[i] && !candidate {
				t.Errorf("%s had met the candidate, and does not with weight %d", client(i), weight)
			}
			if want := uint64(ipc.StickyHash(salt, client(i))) < ipc.StickyBound(uint64(weight), whole); want != candidate {
				t.Errorf("%s: at the candidate %t, the hash says %t", client(i), candidate, want)
			}
			if met[i] = candidate; candidate {
				n++
			}
		}
		expect(t, fmt.Sprintf("clients of the candidate at %g %%", float64(weight)/100), n, clients, float64(weight)/whole)
		if n > 0 {
			expect(t, "three in four of their connections", by["3"], by["2"]+by["3"], 0.75)
		}
		if by["0"]+by["1"]+by["2"]+by["3"] != len(got) {
			t.Errorf("there are others: %v", by)
		}
	}
	for slot := range 4 {
		if who, err := w.probe(slot, "http"); err != nil || who != fmt.Sprint(slot) {
			t.Errorf("a check of slot %d reaches %q, %v", slot, who, err)
		}
	}
}

// What puts the steering right, or takes a slot out of it, has the salt that is in force.
func TestTheSaltIsKept(t *testing.T) {
	var attached []bpf.Instruction // the last program
	fails := false
	sys := host()
	sys.attach = func(fd int, p []bpf.Instruction) error {
		if fails {
			return unix.ENOMEM
		}
		attached = p
		return steer.Attach(fd, p)
	}
	w := newWorldOn(t, sys, tcp("http", "127.0.0.1"))
	for slot := range 4 {
		w.man(slot, "http")
	}
	shares := canaryAt(1000)
	if err := w.Steer(shares, 5); err != nil {
		t.Fatal(err)
	}
	l := w.listeners[0]
	check := func(after string, shares []Share) {
		t.Helper()
		w.mu.Lock()
		defer w.mu.Unlock()
		if !reflect.DeepEqual(attached, l.program(shares, 5)) {
			t.Errorf("after %s it is steered in another way", after)
		}
	}
	check("it", shares)

	fails = true
	if err := w.Steer(shares[:1], 6); err == nil {
		t.Error("no error")
	}
	fails, attached = false, nil
	w.mendDrift(time.Now().Add(2 * attachInterval))
	check("an error and a look at all programs", shares)

	if err := w.Grow(testSlots + 1); err != nil {
		t.Fatal(err)
	}
	check("growing", shares)

	w.Quarantine(3)
	check("a slot's end", shares[:3])
}

// A listener that was steered when another could not be goes back to shares and salt.
func TestTheSaltComesBack(t *testing.T) {
	programs := map[int][]bpf.Instruction{}
	fails := 0
	sys := host()
	sys.attach = func(fd int, p []bpf.Instruction) error {
		if fd == fails {
			return unix.ENOMEM
		}
		programs[fd] = p
		return steer.Attach(fd, p)
	}
	w := newWorldOn(t, sys, tcp("http", "127.0.0.1"), tcp("debug", "127.0.0.1"))
	for slot := range 4 {
		w.man(slot, "http", "debug")
	}
	if err := w.Steer(canaryAt(1000), 5); err != nil {
		t.Fatal(err)
	}
	own := func(i int) int { return w.listeners[i].sockets[w.listeners[i].own()].fd }
	before := programs[own(0)]
	fails = own(1)
	if err := w.Steer(canaryAt(2000), 6); err == nil {
		t.Fatal("no error")
	}
	fails = 0
	if !reflect.DeepEqual(programs[own(0)], before) || w.listeners[0].sticky != 5 {
		t.Error("it is steered in another way")
	}
}

// Master and keeper have died together, and a start took the sockets out of the workers, but
// came to nothing: clients are on the side on which they were.
func TestTheSaltIsSalvaged(t *testing.T) {
	conf := salvageConf(t, "IPv4")
	first := newWorld(t, conf)
	holders := []Holder{first.process(2, true, "http"), first.process(5, false, "http"), first.process(1, false, "http")}
	shares := []Share{{Slot: 5, Weight: 1, Canary: true}, {Slot: 1, Weight: 1}}
	const salt = 5
	if err := first.Steer(shares, salt); err != nil {
		t.Fatal(err)
	}
	addr := first.reachable("http")
	if err := first.Leave(); err != nil {
		t.Fatal(err)
	}
	absent := tcp("other", "203.0.113.77")
	absent.Port = 8080
	_, err := Open(Options{Listeners: []config.Listener{conf, absent}, Slots: testSlots, Holders: holders, Shares: shares,
		Sticky: salt})
	if !errors.Is(err, unix.EADDRNOTAVAIL) {
		t.Fatalf("the start: %v", err)
	}
	for i := range 40 {
		client, want := netip.AddrFrom4([4]byte{127, 1, 1, byte(i)}), "1"
		if uint64(ipc.StickyHash(salt, client)) < ipc.StickyBound(1, 2) {
			want = "5"
		}
		if who, err := askFrom(client, addr); err != nil || who != want {
			t.Errorf("%s is at %q, %v, want %s", client, who, err, want)
		}
	}
}
