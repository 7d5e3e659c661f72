package listen

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/master/config"
)

const (
	testSlots      = 16
	testGeneration = 1
	patience       = 20 * time.Second // for a fact that must come
)

// world is a Set with somebody who remembers what it told.
type world struct {
	*Set
	t       *testing.T
	orphans chan net.Conn
	own     chan net.Conn
	quiet   chan int
	hosts   sync.WaitGroup
}

func newWorld(t *testing.T, ls ...config.Listener) *world {
	t.Helper()
	return newWorldOn(t, host(), ls...)
}

func newWorldOn(t *testing.T, sys system, ls ...config.Listener) *world {
	t.Helper()
	w := &world{t: t, orphans: make(chan net.Conn, 4096), own: make(chan net.Conn, 4096), quiet: make(chan int, 4096)}
	set, err := open(Options{
		Listeners: ls, Slots: testSlots,
		Orphan: func(_ config.Listener, fd int) { w.orphans <- connOf(t, fd) },
		Quiet:  func(slot int) { w.quiet <- slot },
		Own:    func(_ config.Listener, c net.Conn) { w.own <- c },
	}, sys)
	if err != nil {
		t.Fatal(err)
	}
	w.Set = set
	t.Cleanup(func() {
		if err := set.Close(); err != nil {
			t.Error(err)
		}
		w.hosts.Wait()
		for _, left := range []chan net.Conn{w.orphans, w.own} {
			for len(left) > 0 {
				(<-left).Close()
			}
		}
	})
	return w
}

func tcp(name, host string) config.Listener {
	return config.Listener{Name: name, Network: "tcp", Host: host, Backlog: 256, Steering: "auto"}
}

func onPath(name, path string) config.Listener {
	return config.Listener{Name: name, Network: "unix", Path: path, Mode: 0o660, Backlog: 256, Steering: "auto"}
}

func connOf(t *testing.T, fd int) net.Conn {
	f := os.NewFile(uintptr(fd), "conn")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		t.Error(err)
	}
	return c
}

// worker answers every connection of its slot with the slot's number.
type worker struct {
	slot      int
	listeners []net.Listener
	wait      sync.WaitGroup
}

// man starts a worker in a slot; stop ends it.
func (w *world) man(slot int, names ...string) *worker {
	w.t.Helper()
	files, err := w.Man(slot, names, testGeneration)
	if err != nil {
		w.t.Fatal(err)
	}
	k := &worker{slot: slot}
	for _, f := range files {
		l := listenerOf(w.t, f.FD)
		k.listeners = append(k.listeners, l)
		k.wait.Go(func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				k.wait.Go(func() { serve(c, strconv.Itoa(slot)) })
			}
		})
	}
	w.t.Cleanup(k.stop)
	return k
}

func listenerOf(t *testing.T, fd int) net.Listener {
	t.Helper()
	f := os.NewFile(uintptr(fd), "slot")
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		t.Fatal(err)
	}
	if u, ok := l.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false)
	}
	return l
}

// stop accepts nothing more, and lets what was accepted end.
func (k *worker) stop() {
	for _, l := range k.listeners {
		l.Close()
	}
	k.wait.Wait()
}

// serve answers one question.
func serve(c net.Conn, answer string) {
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	if _, err := bufio.NewReader(c).ReadString('\n'); err != nil {
		return
	}
	fmt.Fprintln(c, answer)
}

// host answers orphans for as long as the test runs.
func (w *world) host() {
	ctx := w.t.Context()
	w.hosts.Go(func() {
		for {
			select {
			case c := <-w.orphans:
				w.hosts.Go(func() { serve(c, "orphan") })
			case <-ctx.Done():
				return
			}
		}
	})
}

// ask makes a connection, asks, and returns who answered. It never tries again.
func ask(network, addr string) (string, error) {
	d := net.Dialer{Timeout: patience}
	c, err := d.Dial(network, addr)
	if err != nil {
		return "", err
	}
	return question(c)
}

func question(c net.Conn) (string, error) {
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, "who\n"); err != nil {
		return "", err
	}
	b, err := io.ReadAll(c)
	if err == nil && len(b) == 0 {
		err = io.ErrUnexpectedEOF
	}
	return strings.TrimSpace(string(b)), err
}

// count asks n times and counts the answers.
func count(t *testing.T, network, addr string, n int) map[string]int {
	t.Helper()
	got := map[string]int{}
	for range n {
		who, err := ask(network, addr)
		if err != nil {
			t.Fatal(err)
		}
		got[who]++
	}
	return got
}

func (w *world) steer(shares ...Share) {
	w.t.Helper()
	if err := w.Steer(shares, 0); err != nil {
		w.t.Fatal(err)
	}
}

// eventually waits for a fact.
func eventually(t *testing.T, what string, fact func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !fact() {
		if time.Now().After(deadline) {
			t.Fatalf("it never came true that %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

func receive[T any](t *testing.T, what string, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(patience):
		t.Fatalf("%s never came", what)
		panic("unreachable")
	}
}

// nonblocking tells what all who hold a socket share.
func nonblocking(t *testing.T, fd int) bool {
	t.Helper()
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil {
		t.Fatal(err)
	}
	return flags&unix.O_NONBLOCK != 0
}

// addrs are where the tests listen, by kind.
func addrs(t *testing.T) map[string]config.Listener {
	all := map[string]config.Listener{
		"IPv4":          tcp("http", "127.0.0.1"),
		"all IPv4":      {Name: "http", Network: "tcp4", Backlog: 256},
		"name":          tcp("http", "localhost"),
		"unix":          onPath("http", t.TempDir()+"/http.sock"),
		"all addresses": tcp("http", ""),
	}
	if c, err := net.Listen("tcp6", "[::1]:0"); err == nil {
		c.Close()
		all["IPv6"] = tcp("http", "::1")
		all["all IPv6"] = config.Listener{Name: "http", Network: "tcp6", Backlog: 256}
	} else {
		t.Log("no IPv6 here:", err)
		delete(all, "all addresses")
	}
	for _, ip := range outside() {
		all["outside "+ip] = tcp("http", ip)
	}
	return all
}

// outside are addresses of this machine that are not loopback.
func outside() []string {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	var ips []string
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() && len(ips) < 4 {
			ips = append(ips, n.IP.String())
		}
	}
	return ips
}

func network(c config.Listener) string {
	if c.Network == "unix" {
		return "unix"
	}
	return "tcp"
}

// reachable is an address that clients can use.
func (w *world) reachable(name string) string {
	addr := w.Addr(name)
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	switch host {
	case "0.0.0.0":
		host = "127.0.0.1"
	case "::":
		host = "::1"
	}
	return net.JoinHostPort(host, port)
}

func asListenError(t *testing.T, err error) *Error {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("%v (%T), want an *Error", err, err)
	}
	return e
}

func (w *world) probe(slot int, name string) (string, error) {
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	c, err := w.ProbeDial(ctx, slot, name)
	if err != nil {
		return "", err
	}
	return question(c)
}
