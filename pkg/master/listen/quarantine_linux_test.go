package listen

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/master/listen/steer"
	"github.com/masterd/masterd/pkg/master/sockdiag"
)

// A handshake is under way: its late ACK must find somebody, and the slot is
// not given on before. TCP_DEFER_ACCEPT makes the kernel wait for data, as it
// waits for the ACK of a client far away.
func TestLateHandshake(t *testing.T) {
	t.Parallel()
	for _, host := range []string{"127.0.0.1", "::1", ""} {
		t.Run(host, func(t *testing.T) {
			if host != "127.0.0.1" && addrs(t)["IPv6"].Host == "" {
				t.Skip("no IPv6 here")
			}
			w := newWorld(t, tcp("http", host))
			files, err := w.Man(0, []string{"http"}, testGeneration)
			if err != nil {
				t.Fatal(err)
			}
			if err := unix.SetsockoptInt(files[0].FD, unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, 30); err != nil {
				t.Fatal(err)
			}
			closeFD(files[0].FD)
			w.man(1, "http")
			w.steer(Share{Slot: 0, Weight: 1})

			late, err := net.Dial("tcp", w.reachable("http"))
			if err != nil {
				t.Fatal(err)
			}
			defer late.Close()
			if q := w.Status()[0].Queue; q != 0 {
				t.Fatalf("the queue has %d: there is nothing to be late", q)
			}
			w.steer(Share{Slot: 1, Weight: 1})
			w.Quarantine(0)
			select {
			case <-w.quiet:
				t.Fatal("the slot was called quiet with a handshake under way")
			case <-time.After(10 * sockdiag.SettleTime):
			}
			// New clients meanwhile are no reason to wait longer.
			count(t, "tcp", w.reachable("http"), 20)

			w.host()
			if who, err := question(late); err != nil || who != "orphan" {
				t.Fatalf("%q, %v", who, err)
			}
			if slot := receive(t, "quiet", w.quiet); slot != 0 {
				t.Errorf("slot %d is quiet", slot)
			}
			if n := len(w.quiet); n > 0 {
				t.Error("it was told more than once")
			}
		})
	}
}

// Only handshakes that were there when the quarantine began hold it up, and
// all of them do.
func TestQuarantineWaitsForThoseBefore(t *testing.T) {
	t.Parallel()
	var port atomic.Uint32
	var clients atomic.Value
	clients.Store("a b")
	looks := make(chan struct{}, 1000)
	sys := host()
	sys.handshakes = func(bool) (map[sockdiag.Flow]struct{}, error) {
		found := map[sockdiag.Flow]struct{}{}
		for _, c := range strings.Fields(clients.Load().(string)) {
			remote := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, c[0]}), 1000)
			found[sockdiag.Flow{Local: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(port.Load())), Remote: remote}] = struct{}{}
		}
		other := netip.MustParseAddrPort("10.0.0.1:1")
		// another port
		found[sockdiag.Flow{Local: netip.AddrPortFrom(other.Addr(), uint16(port.Load())+1), Remote: other}] = struct{}{}
		looks <- struct{}{}
		return found, nil
	}
	w := newWorldOn(t, sys, tcp("http", "127.0.0.1"))
	port.Store(uint32(netip.MustParseAddrPort(w.Addr("http")).Port()))
	w.Quarantine(3)
	receive(t, "a look", looks)
	for _, c := range []string{"a b c", "b c d", "b"} {
		clients.Store(c)
		for len(looks) > 0 {
			<-looks
		}
		receive(t, "a look", looks)
		receive(t, "a look", looks)
		if len(w.quiet) > 0 {
			t.Fatalf("quiet with %s under way", c)
		}
	}
	clients.Store("c d e")
	if slot := receive(t, "quiet", w.quiet); slot != 3 {
		t.Errorf("slot %d is quiet", slot)
	}
}

// Where handshakes cannot be counted a slot is kept back.
func TestBlindQuarantine(t *testing.T) {
	looks := make(chan struct{}, 1000)
	sys := host()
	sys.handshakes = func(bool) (map[sockdiag.Flow]struct{}, error) {
		looks <- struct{}{}
		return nil, errors.ErrUnsupported
	}
	w := newWorldOn(t, sys, tcp("http", "127.0.0.1"))
	w.Quarantine(0)
	receive(t, "a look", looks)
	receive(t, "a look", looks)
	if len(w.quiet) > 0 {
		t.Fatal("the slot is quiet at once")
	}
	w.mu.Lock()
	w.quarantine[0].since = time.Now().Add(-blindQuarantine)
	w.mu.Unlock()
	receive(t, "quiet", w.quiet)
}

// A slot that is assigned again is no more in quarantine, and gets nothing by
// what it had before.
func TestMannedAgain(t *testing.T) {
	w := newWorld(t, tcp("http", "127.0.0.1"))
	w.man(0, "http")
	w.man(1, "http")
	w.steer(Share{Slot: 0, Weight: 1}, Share{Slot: 1, Weight: 1})
	w.Quarantine(0) // crashed: its share goes to the other at once
	if got := count(t, "tcp", w.Addr("http"), 40); got["1"] != 40 {
		t.Error(got)
	}
	receive(t, "quiet", w.quiet)
	w.Quarantine(0)
	w.man(0, "http")
	if got := count(t, "tcp", w.Addr("http"), 40); got["1"] != 40 {
		t.Error(got)
	}
	w.Quarantine(1) // the last: clients wait
	waiting, err := net.Dial("tcp", w.Addr("http"))
	if err != nil {
		t.Fatal(err)
	}
	w.host()
	w.steer(Share{Slot: 0, Weight: 1})
	if who, err := question(waiting); err != nil || who != "orphan" {
		t.Errorf("%q, %v", who, err)
	}
	if got := count(t, "tcp", w.Addr("http"), 20); got["0"] != 20 {
		t.Error(got)
	}
	if slot := receive(t, "quiet", w.quiet); slot != 1 {
		t.Errorf("slot %d is quiet; 0 was assigned before", slot)
	}
}

// A queue whose worker died is passed on, and so is what comes late to a slot
// that has been quiet for long.
func TestOrphans(t *testing.T) {
	for _, c := range []string{"tcp", "unix"} {
		t.Run(c, func(t *testing.T) {
			conf := tcp("http", "127.0.0.1")
			if c == "unix" {
				conf = onPath("http", t.TempDir()+"/s")
			}
			w := newWorld(t, conf)
			files, err := w.Man(0, []string{"http"}, testGeneration)
			if err != nil {
				t.Fatal(err)
			}
			closeFD(files[0].FD) // died without having accepted anything
			w.man(1, "http")
			w.steer(Share{Slot: 0, Weight: 1})
			var queued []net.Conn
			for range 50 {
				conn, err := net.Dial(c, w.reachable("http"))
				if err != nil {
					t.Fatal(err)
				}
				queued = append(queued, conn)
			}
			w.steer(Share{Slot: 1, Weight: 1})
			w.Quarantine(0)
			w.host()
			for _, conn := range queued {
				if who, err := question(conn); err != nil || who != "orphan" {
					t.Fatalf("%q, %v", who, err)
				}
			}
			receive(t, "quiet", w.quiet)
			if who, err := w.probe(0, "http"); err != nil || who != "orphan" {
				t.Errorf("late: %q, %v", who, err)
			}
		})
	}
}

// No descriptors: connections wait until there are some again.
func TestStarvation(t *testing.T) {
	w := newWorld(t, tcp("http", "127.0.0.1"))
	w.steer()
	w.mu.Lock()
	w.starve(unix.EMFILE)
	until := w.starved
	w.mu.Unlock()
	c, err := net.Dial("tcp", w.Addr("http"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	w.watch.wake()
	(receive(t, "the connection", w.own)).Close()
	if time.Now().Before(until) {
		t.Error("it was accepted before its time")
	}
}

// What a slot's worker did to it is undone for the next.
func TestManIsAsNew(t *testing.T) {
	w := newWorld(t, tcp("http", "127.0.0.1"))
	files, err := w.Man(0, []string{"http"}, testGeneration)
	if err != nil {
		t.Fatal(err)
	}
	fd := files[0].FD
	defer closeFD(fd)
	before := steer.TakeBaseline(fd)
	for _, o := range []struct{ level, name, value int }{
		{unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, 10},
		{unix.IPPROTO_TCP, unix.TCP_FASTOPEN, 10},
		{unix.IPPROTO_TCP, unix.TCP_MAXSEG, 600},
		{unix.SOL_SOCKET, unix.SO_RCVBUF, 4096},
		{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		{unix.IPPROTO_IP, unix.IP_TOS, 0x20},
	} {
		if err := unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.SetNonblock(fd, false); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 3); err != nil {
		t.Fatal(err)
	}
	again, err := w.Man(0, []string{"http"}, testGeneration)
	if err != nil {
		t.Fatal(err)
	}
	closeFD(again[0].FD)
	if after := steer.TakeBaseline(fd); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("it was\n%v\nand is\n%v", before, after)
	}
	if v, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BUF_LOCK); v != 0 {
		t.Error("buffers cannot grow")
	}
	if !nonblocking(t, fd) {
		t.Error("it blocks")
	}
	if _, limit, _ := steer.Queue(fd); limit != 256 {
		t.Errorf("its backlog is %d", limit)
	}
	for _, bad := range [][]string{{"nobody"}, {"http", "nobody"}} {
		if _, err := w.Man(1, bad, testGeneration); err == nil {
			t.Errorf("manning %v was accepted", bad)
		}
	}
	if _, err := w.Man(testSlots, nil, testGeneration); err == nil {
		t.Error("the master's own slot was given away")
	}
}

// Handing sockets to processes leaves them non-blocking.
func TestSpawnsLeaveNonblock(t *testing.T) {
	w := newWorld(t, tcp("http", "127.0.0.1"), onPath("admin", t.TempDir()+"/s"))
	for i := range 100 {
		files, err := w.Man(i%testSlots, []string{"http", "admin"}, testGeneration)
		if err != nil {
			t.Fatal(err)
		}
		fds := []uintptr{0, 1, 2}
		for _, f := range files {
			fds = append(fds, uintptr(f.FD))
		}
		spawn(t, fds)
		for _, f := range files {
			if !nonblocking(t, f.FD) {
				t.Fatalf("after spawn %d %s blocks", i, f.Name)
			}
			if flags, _ := unix.FcntlInt(uintptr(f.FD), unix.F_GETFD, 0); flags&unix.FD_CLOEXEC == 0 {
				t.Fatalf("%s is open for every child", f.Name)
			}
			closeFD(f.FD)
		}
		w.Quarantine(i % testSlots)
	}
}

// Clients that go away while they wait are nobody's trouble.
func TestGoneWhileWaiting(t *testing.T) {
	w := newWorld(t, tcp("http", "127.0.0.1"))
	for range 50 {
		c, err := net.Dial("tcp", w.Addr("http"))
		if err != nil {
			t.Fatal(err)
		}
		c.(*net.TCPConn).SetLinger(0)
		c.Close()
	}
	w.steer()
	c, err := net.Dial("tcp", w.Addr("http"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "x")
	for {
		own := receive(t, "the living one", w.own)
		own.SetDeadline(time.Now().Add(patience))
		n, _ := own.Read(make([]byte, 1))
		own.Close()
		if n == 1 {
			return
		}
	}
}
