package listen

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/keeper"
	"github.com/masterd/masterd/pkg/master/keeper/keepertest"
	"github.com/masterd/masterd/pkg/master/listen/salvage"
	"github.com/masterd/masterd/pkg/master/listen/steer"
)

// slotEnv makes the test binary a worker of that slot; a parked one accepts nothing.
const (
	slotEnv   = "LISTEN_TEST_SLOT"
	parkedEnv = "LISTEN_TEST_PARKED"
)

// TestWorkerProcess is no test but a worker in a process of its own: its sockets
// are descriptors 3 and up.
func TestWorkerProcess(t *testing.T) {
	slot := os.Getenv(slotEnv)
	if slot == "" {
		t.Skip("not asked for")
	}
	if os.Getenv(parkedEnv) != "" {
		_, _ = os.Stdin.Read(make([]byte, 1)) // until the test is over
		return
	}
	l := listenerOf(t, 3)
	go func() {
		_, _ = os.Stdin.Read(make([]byte, 1))
		l.Close()
	}()
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go serve(c, slot)
	}
}

// process starts a worker that lives in a process of its own.
func (w *world) process(slot int, parked bool, name string) Holder {
	w.t.Helper()
	h, _ := w.processAs(nil, slot, parked, name)
	return h
}

// processAs has it be another user's; the function kills it.
func (w *world) processAs(who *syscall.Credential, slot int, parked bool, name string) (h Holder, kill func()) {
	w.t.Helper()
	files, err := w.Man(slot, []string{name}, testGeneration)
	if err != nil {
		w.t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestWorkerProcess$")
	cmd.Env = append(os.Environ(), slotEnv+"="+strconv.Itoa(slot), "GORACE=atexit_sleep_ms=0")
	if parked {
		cmd.Env = append(cmd.Env, parkedEnv+"=1")
	}
	f := os.NewFile(uintptr(files[0].FD), "slot")
	cmd.ExtraFiles = []*os.File{f}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: who}
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	f.Close()
	w.t.Cleanup(func() {
		in.Close()
		_ = cmd.Wait()
	})
	return Holder{Slot: slot, PID: cmd.Process.Pid}, func() { _ = cmd.Process.Kill() }
}

// salvaged opens a Set that has nothing but the workers of an earlier one.
func salvaged(t *testing.T, slots int, from []Holder, ls ...config.Listener) (*world, *keepertest.Shelf, error) {
	t.Helper()
	return salvagedWith(t, nil, slots, from, ls...)
}

func salvagedWith(t *testing.T, held []keeper.Held, slots int, from []Holder, ls ...config.Listener) (*world, *keepertest.Shelf, error) {
	t.Helper()
	w := &world{t: t, orphans: make(chan net.Conn, 4096), own: make(chan net.Conn, 4096), quiet: make(chan int, 4096)}
	s := keepertest.New(t)
	set, err := Open(Options{
		Listeners: ls, Slots: slots, Held: held, Holders: from, Keeper: s,
		Orphan: func(_ config.Listener, fd int) { w.orphans <- connOf(t, fd) },
		Quiet:  func(slot int) { w.quiet <- slot },
		Own:    func(_ config.Listener, c net.Conn) { w.own <- c },
	})
	if err != nil {
		return nil, nil, err
	}
	w.Set = set
	t.Cleanup(func() {
		if err := set.Close(); err != nil {
			t.Error(err)
		}
		w.hosts.Wait()
	})
	return w, s, nil
}

// salvageConf is with a port that is known: one that the kernel chose cannot be
// found again.
func salvageConf(t *testing.T, kind string) config.Listener {
	t.Helper()
	c := takenOver(t)[kind]
	if c.Network != "unix" {
		c.Port = freePort(t)
	}
	return c
}

// Only workers are left. Whatever the order of the sockets is now, what clients
// send arrives, what has fallen into a queue that nobody reads is passed on, and
// then each slot is steered to as before.
func TestSocketsAreTakenOverFromWorkers(t *testing.T) {
	for kind := range takenOver(t) {
		t.Run(kind, func(t *testing.T) {
			conf := salvageConf(t, kind)
			first := newWorld(t, conf)
			active := []Holder{first.process(9, false, "http")}
			var parked []Holder
			if conf.Steering != shared {
				for _, slot := range []int{2, 14, 5} {
					parked = append(parked, first.process(slot, true, "http"))
				}
				active = append(active, first.process(0, false, "http"), first.process(11, false, "http"))
			}
			for _, h := range active {
				first.steer(Share{Slot: h.Slot, Weight: 1})
				got := count(t, network(conf), first.reachable("http"), 5)
				if conf.Steering != shared && got[strconv.Itoa(h.Slot)] != 5 {
					t.Fatalf("before: %v", got)
				}
			}
			first.steer(Share{Slot: 9, Weight: 1}, Share{Slot: parkedOr(parked, 9), Weight: 1}) // half of it gets no answer
			addr := first.reachable("http")
			var clients []net.Conn
			if conf.Network != "unix" {
				for range 20 {
					c, err := net.Dial(network(conf), addr)
					if err != nil {
						t.Fatal(err)
					}
					clients = append(clients, c)
				}
			}
			if err := first.Leave(); err != nil {
				t.Fatal(err)
			}

			next, shelf, err := salvaged(t, testSlots, append(parked, active...), conf)
			if err != nil {
				t.Fatal(err)
			}
			for _, h := range append(parked, active...) {
				if err := next.Assigned(h.Slot, []string{"http"}, testGeneration); err != nil {
					t.Fatal(err)
				}
			}
			next.host()
			next.steer(Share{Slot: 9, Weight: 1})
			for i, c := range clients {
				if who, err := question(c); err != nil || who != "9" && who != "orphan" {
					t.Fatalf("client %d: %q, %v", i, who, err)
				}
			}
			for _, h := range active {
				next.steer(Share{Slot: h.Slot, Weight: 1})
				if got := count(t, network(conf), addr, 20); got[strconv.Itoa(h.Slot)] != 20 {
					t.Errorf("steered to slot %d: %v", h.Slot, got)
				}
			}
			if conf.Steering == shared {
				return
			}
			next.man(3, "http") // one that was lost
			next.steer(Share{Slot: 3, Weight: 1})
			if got := count(t, network(conf), addr, 20); got["3"] != 20 {
				t.Errorf("steered to slot 3, which is new: %v", got)
			}
			if got := len(shelf.Names()); got != testSlots+1 {
				t.Errorf("%d sockets are held: %v", got, shelf.Names())
			}
		})
	}
}

func parkedOr(parked []Holder, slot int) int {
	if len(parked) > 0 {
		return parked[0].Slot
	}
	return slot
}

// The live sockets are the first of the kernel's array again, and what the next
// generations get comes right behind them: should all but the workers die once
// more, few sockets without a worker are met on the way down, and the master's own
// is none of them.
func TestOrderIsGoodAfterASalvage(t *testing.T) {
	conf := salvageConf(t, "IPv4")
	first := newWorld(t, conf)
	parked, active := first.process(2, true, "http"), first.process(1, false, "http")
	first.steer(Share{Slot: 1, Weight: 1})
	if err := first.Leave(); err != nil {
		t.Fatal(err)
	}
	next, _, err := salvaged(t, 6, []Holder{parked, active}, conf)
	if err != nil {
		t.Fatal(err)
	}
	order := func() []int {
		next.mu.Lock()
		defer next.mu.Unlock()
		return slices.Clone(next.listeners[0].order)
	}
	if own := order()[2]; own != 6 {
		t.Fatalf("clients wait in socket %d meanwhile", own)
	}
	for _, h := range []Holder{parked, active} {
		if err := next.Assigned(h.Slot, []string{"http"}, testGeneration); err != nil {
			t.Fatal(err)
		}
	}
	begun := time.Now()
	next.steer(Share{Slot: 1, Weight: 1})
	for !slices.Equal(order()[2:], []int{0, 3, 4, 5, 6}) {
		if time.Since(begun) > 10*time.Second {
			t.Fatalf("the order is %v", order())
		}
		time.Sleep(time.Millisecond)
	}
	t.Logf("%v after %s", order(), time.Since(begun).Round(time.Millisecond))
	if got := count(t, network(conf), next.reachable("http"), 20); got["1"] != 20 {
		t.Errorf("steered to slot 1: %v", got)
	}
}

// Who held the sockets had been given only some when the master died.
func TestSomeWereHeld(t *testing.T) {
	for _, kind := range []string{"IPv4", "all addresses", "unix"} {
		conf := addrs(t)[kind]
		t.Run(kind, func(t *testing.T) {
			s := keepertest.New(t)
			first := mustHold(t, s, testSlots, conf)
			worker := first.process(4, false, "http")
			first.steer(Share{Slot: 4, Weight: 1})
			addr := first.reachable("http")
			if err := first.Leave(); err != nil {
				t.Fatal(err)
			}
			for _, socket := range []string{"1", "4", "7", "11", "15", heldOwn} {
				s.Lose(heldName(conf, socket))
			}
			next, _, err := salvagedWith(t, s.All(), testSlots, []Holder{worker}, conf)
			if err != nil {
				t.Fatal(err)
			}
			if err := next.Assigned(4, []string{"http"}, testGeneration); err != nil {
				t.Fatal(err)
			}
			next.steer(Share{Slot: 4, Weight: 1})
			if got := count(t, network(conf), addr, 20); got["4"] != 20 {
				t.Errorf("the slot that only the worker had: %v", got)
			}
			for _, slot := range []int{3, 7, 12} {
				next.man(slot, "http")
				next.steer(Share{Slot: slot, Weight: 1})
				if got := count(t, network(conf), addr, 20); got[strconv.Itoa(slot)] != 20 {
					t.Errorf("slot %d: %v", slot, got)
				}
			}
		})
	}
}

// What cannot be taken over is told, and left alone.
func TestSalvageThatCannotBe(t *testing.T) {
	conf := salvageConf(t, "IPv4")
	first := newWorld(t, conf)
	known, other := first.process(1, false, "http"), first.process(2, false, "http")
	first.steer(Share{Slot: 1, Weight: 1})
	addr := first.reachable("http")
	if err := first.Leave(); err != nil {
		t.Fatal(err)
	}
	before := descriptors(t)
	_, _, err := salvaged(t, testSlots, []Holder{known}, conf)
	if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("held by pid %d", other.PID)) {
		t.Fatalf("the process that nobody knows: %v", err)
	}
	gone := exec.Command("/bin/true")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	_, _, err = salvaged(t, testSlots, []Holder{{7, gone.Process.Pid}}, conf)
	if err == nil || !strings.Contains(err.Error(), "held by pid ") {
		t.Fatalf("only a process that is gone: %v", err)
	}
	if got := descriptors(t); got > before {
		t.Errorf("%d descriptors, and %d before", got, before)
	}
	if got := count(t, "tcp", addr, 10); got["1"]+got["2"] != 10 {
		t.Errorf("who served: %v", got)
	}
	if _, _, err := salvaged(t, testSlots, []Holder{known, other}, conf); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// A socket that gives no answer, as the queue is full of a worker that hangs, or as
// the machine is overloaded, is asked again: whoever waits there is served by others,
// and the service can be taken over.
func TestWhatDoesNotAnswerIsAskedAgain(t *testing.T) {
	conf := salvageConf(t, "IPv4")
	conf.Backlog = 1
	first := newWorld(t, conf)
	hung, well := first.process(3, false, "http"), first.process(1, false, "http")
	first.steer(Share{Slot: 3, Weight: 1})
	addr := first.reachable("http")
	if got := count(t, "tcp", addr, 1); got["3"] != 1 {
		t.Fatalf("before: %v", got)
	}
	if err := syscall.Kill(hung.PID, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(hung.PID, syscall.SIGCONT) })
	eventually(t, "it has stopped", func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", hung.PID))
		_, state, _ := strings.Cut(string(stat), ") ")
		return err == nil && strings.HasPrefix(state, "T")
	})
	var clients []net.Conn
	for {
		c, err := net.DialTimeout("tcp", addr, steer.DialLimit)
		if err != nil {
			break // it is full
		}
		defer c.Close()
		if clients = append(clients, c); len(clients) > 10 {
			t.Fatal("the queue does not fill")
		}
	}
	if err := first.Leave(); err != nil {
		t.Fatal(err)
	}
	next, _, err := salvaged(t, testSlots, []Holder{hung, well}, conf)
	if err != nil {
		t.Fatal(err)
	}
	for _, slot := range []int{3, 1} {
		if err := next.Assigned(slot, []string{"http"}, testGeneration); err != nil {
			t.Fatal(err)
		}
	}
	next.host()
	next.steer(Share{Slot: 1, Weight: 1})
	if got := count(t, "tcp", addr, 10); got["1"] != 10 {
		t.Errorf("who served: %v", got)
	}
	if len(clients) == 0 {
		t.Fatal("nobody waited")
	}
	for i, c := range clients {
		if who, err := question(c); err != nil || who != "orphan" {
			t.Errorf("client %d, who waited for the hung one: %q, %v", i, who, err)
		}
	}
}

// A start that fails after it has found the order out leaves the traffic as it was:
// with those who had it, and not with one that is parked.
func TestAFailingStartLeavesTheTraffic(t *testing.T) {
	for _, kind := range []string{"IPv4", "all addresses"} {
		t.Run(kind, func(t *testing.T) {
			conf := salvageConf(t, kind)
			first := newWorld(t, conf)
			all := []Holder{first.process(2, true, "http"), first.process(5, false, "http"), first.process(4, true, "http"), first.process(1, false, "http")}
			steered := []Share{{Slot: 5, Weight: 1}, {Slot: 1, Weight: 1}}
			first.steer(steered...)
			addr := first.reachable("http")
			if err := first.Leave(); err != nil {
				t.Fatal(err)
			}
			absent := tcp("other", "203.0.113.77")
			absent.Port = 8080
			for range 3 {
				if _, err := Open(Options{Listeners: []config.Listener{conf, absent}, Slots: testSlots, Holders: all, Shares: steered}); !errors.Is(err, unix.EADDRNOTAVAIL) {
					t.Fatalf("the start: %v", err)
				}
				got := count(t, "tcp", addr, 40)
				if got["5"]+got["1"] != 40 || got["5"] == 0 || got["1"] == 0 {
					t.Errorf("who served: %v", got)
				}
			}
		})
	}
}

// A worker that is being killed looks like another user's before it is gone.
func TestWhoRefusesIsWaitedFor(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can be several users")
	}
	for _, kind := range []string{"IPv4", "unix"} {
		for _, dies := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, dies: %t", kind, dies), func(t *testing.T) {
				conf := salvageConf(t, kind)
				first := newWorld(t, conf)
				other, kill := first.processAs(&syscall.Credential{Uid: 65534, Gid: 65534}, 1, true, "http")
				worker := first.process(2, false, "http")
				first.steer(Share{Slot: 2, Weight: 1})
				addr := first.reachable("http")
				if err := first.Leave(); err != nil {
					t.Fatal(err)
				}
				runtime.LockOSThread() // the thread ends with the test
				withoutOverride(t)
				if dies {
					time.AfterFunc(salvage.SettleLimit/8, kill)
				}
				next, _, err := salvaged(t, testSlots, []Holder{other, worker}, conf)
				if !dies {
					if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("out of process %d", other.PID)) || !errors.Is(err, os.ErrPermission) {
						t.Fatalf("it refuses: %v", err)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				if err := next.Assigned(2, []string{"http"}, testGeneration); err != nil {
					t.Fatal(err)
				}
				next.steer(Share{Slot: 2, Weight: 1})
				if got := count(t, network(conf), addr, 10); got["2"] != 10 {
					t.Errorf("who served: %v", got)
				}
			})
		}
	}
}

// withoutOverride has this thread look into its own user's processes only.
func withoutOverride(t *testing.T) {
	t.Helper()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var caps [2]unix.CapUserData
	if err := unix.Capget(&header, &caps[0]); err != nil {
		t.Fatal(err)
	}
	caps[0].Effective &^= 1<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_DAC_READ_SEARCH
	if err := unix.Capset(&header, &caps[0]); err != nil {
		t.Fatal(err)
	}
}

// Clients that come while the order is found out are served.
func TestSalvageUnderLoad(t *testing.T) {
	conf := salvageConf(t, "IPv4")
	first := newWorld(t, conf)
	all := []Holder{first.process(1, false, "http"), first.process(2, false, "http"), first.process(3, false, "http")}
	first.steer(Share{Slot: 1, Weight: 1}, Share{Slot: 2, Weight: 1}, Share{Slot: 3, Weight: 1})
	addr := first.reachable("http")
	if err := first.Leave(); err != nil {
		t.Fatal(err)
	}
	load := startLoad(4, "tcp", addr)
	defer load.end(t)
	next, _, err := salvaged(t, testSlots, all, conf)
	if err != nil {
		t.Fatal(err)
	}
	next.host()
	for _, h := range all {
		if err := next.Assigned(h.Slot, []string{"http"}, testGeneration); err != nil {
			t.Fatal(err)
		}
	}
	next.steer(Share{Slot: 2, Weight: 1})
	if got := count(t, "tcp", addr, 20); got["2"] != 20 {
		t.Errorf("steered to slot 2: %v", got)
	}
}
