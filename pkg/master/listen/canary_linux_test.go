package listen

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/listen/steer"
)

var full = flag.Bool("listen.full", false, "canaries with all their connections and clients")

const (
	whole = 10000 // the weight of all
	// sigmas is how far a count may be off. One that is so by chance is one in 500 million.
	sigmas = 6
	// asInner has a test that was begun again, in another process, know it.
	asInner = "MASTERD_TEST_INNER"
)

// upTo is a number of connections, clients or changes: few, unless all are asked for.
func upTo(few, all int) int {
	if *full {
		return all
	}
	return few
}

// canaryAt are the shares of two slots of each side, of which the second has three times as
// much as the first. Slots 0 and 1 are the version's before, 2 and 3 the candidate's.
func canaryAt(weight uint32) []Share {
	return []Share{{Slot: 0, Weight: whole - weight}, {Slot: 1, Weight: 3 * (whole - weight)},
		{Slot: 2, Weight: weight, Canary: true}, {Slot: 3, Weight: 3 * weight, Canary: true}}
}

// expect says so when a count is too far from what it should be.
func expect(t *testing.T, what string, got, of int, p float64) {
	t.Helper()
	mean, sigma := float64(of)*p, math.Sqrt(float64(of)*p*(1-p))
	off := float64(got) - mean
	t.Logf("%s: %d of %d, %.0f expected, %+.1f standard deviations", what, got, of, mean, off/sigma)
	limit := sigmas * sigma
	if mean < 50 {
		limit += 4 // so few are not distributed normally
	}
	if math.Abs(off) > limit {
		t.Errorf("%s: %d of %d, and %.0f ± %.0f were expected", what, got, of, mean, limit)
	}
}

// askFrom is ask from an address; it leaves no connection in TIME_WAIT.
func askFrom(from netip.Addr, addr string) (string, error) {
	d := net.Dialer{Timeout: patience, KeepAlive: -1}
	if from.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))
		d.Control = func(_, _ string, c syscall.RawConn) error {
			return c.Control(func(fd uintptr) {
				_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
				if from.Is6() {
					_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_FREEBIND, 1)
				}
			})
		}
	}
	c, err := d.Dial("tcp", addr)
	if err != nil {
		return "", err
	}
	defer steer.Reset(c)
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(c, "who\n"); err != nil {
		return "", err
	}
	who, err := bufio.NewReader(c).ReadString('\n')
	return strings.TrimSpace(who), err
}

// each calls f for each number below n, of which some at once, and returns the answers.
func each(t *testing.T, n int, f func(i int) (string, error)) []string {
	t.Helper()
	const atOnce = 4
	got, failed := make([]string, n), make([]error, atOnce)
	var wait sync.WaitGroup
	for k := range atOnce {
		wait.Go(func() {
			for i := k; i < n && failed[k] == nil; i += atOnce {
				got[i], failed[k] = f(i)
			}
		})
	}
	wait.Wait()
	for _, err := range failed {
		if err != nil {
			t.Fatal(err)
		}
	}
	return got
}

// Of many connections each slot gets its part, whatever the kind of address and whoever the
// master's user is.
func TestWeights(t *testing.T) {
	t.Run("as "+fmt.Sprint(os.Getuid()), testWeights)
	if os.Getuid() == 0 {
		t.Run("as nobody", func(t *testing.T) {
			rerun(t, &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}})
		})
	}
}

func testWeights(t *testing.T) {
	all := addrs(t)
	for _, c := range []struct{ name, conf, host string }{
		{"IPv4", "IPv4", ""}, {"IPv6", "IPv6", ""},
		{"dual-stack by IPv4", "all addresses", "127.0.0.1"}, {"dual-stack by IPv6", "all addresses", "::1"},
	} {
		conf, ok := all[c.conf]
		if !ok {
			continue // addrs has said so
		}
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, conf)
			for slot := range 5 {
				w.man(slot, "http")
			}
			addr := w.reachable("http")
			if c.host != "" {
				_, port, _ := net.SplitHostPort(addr)
				addr = net.JoinHostPort(c.host, port)
			}
			for _, weight := range []uint32{100, 1000, 5000} {
				w.steer(canaryAt(weight)...)
				n, by := upTo(500, 20000), map[string]int{}
				for _, who := range each(t, n, func(int) (string, error) { return askFrom(netip.Addr{}, addr) }) {
					by[who]++
				}
				p := float64(weight) / whole
				expect(t, fmt.Sprintf("%g %% at the candidate", 100*p), by["2"]+by["3"], n, p)
				expect(t, "three in four of it", by["3"], by["2"]+by["3"], 0.75)
				expect(t, "three in four of the rest", by["1"], by["0"]+by["1"], 0.75)
				if by["0"]+by["1"]+by["2"]+by["3"] != n {
					t.Errorf("there are others: %v", by)
				}
			}
		})
	}
}

// rerun runs the test that calls it in another process, of other means.
func rerun(t *testing.T, attr *syscall.SysProcAttr) {
	t.Helper()
	name := strings.ReplaceAll(t.Name(), "/as_nobody", "/as_65534")
	attr.Pdeathsig = syscall.SIGKILL
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.v", "-test.run", "^"+strings.ReplaceAll(name, "/", "$/^")+"$",
		fmt.Sprintf("-listen.full=%t", *full))
	cmd.Env, cmd.Dir = append(os.Environ(), asInner+"=1", "TMPDIR=/tmp"), "/"
	cmd.SysProcAttr = attr
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	switch {
	case len(out) == 0 && err != nil:
		t.Skip("not to be had here: ", err)
	case strings.Contains(string(out), "--- SKIP: "+name):
		t.Skip("its reason is above")
	case err != nil:
		t.Error(err)
	case !strings.Contains(string(out), "--- PASS: "+name):
		t.Error("it was not run")
	}
}

// The weights change all the time, and nobody notices but by whom they are served.
func TestWeightChangesLoseNobody(t *testing.T) {
	for name, c := range addrs(t) {
		if name != "IPv4" && name != "all addresses" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, c)
			w.host()
			for slot := range 5 { // one more, which nobody is steered to
				w.man(slot, "http")
			}
			w.steer(canaryAt(1)...)
			l := startLoad(4, network(c), w.reachable("http"))
			for i := range uint32(upTo(300, 1000)) {
				before := l.asked.Load()
				salt := []uint32{0, 7, i}[i%3]
				shares := canaryAt(1 + rand.Uint32N(whole-1))
				if i%5 == 0 { // all to one side
					shares = slices.DeleteFunc(shares, func(s Share) bool { return s.Canary == (i%2 == 0) })
				}
				if err := w.Steer(shares, salt); err != nil {
					t.Fatal(err)
				}
				if i%10 == 0 {
					eventually(t, "somebody asked meanwhile", func() bool { return l.asked.Load() > before })
				}
			}
			l.end(t)
			if others := l.asked.Load() - l.by("0") - l.by("1") - l.by("2") - l.by("3"); others > 0 {
				t.Errorf("%d were answered by who has no weight", others)
			}
		})
	}
}

func BenchmarkWeights(b *testing.B) {
	for _, slots := range []int{1, 64} {
		for _, salt := range []uint32{0, 3} {
			b.Run(fmt.Sprintf("%d+%d slots, salt %d", slots, slots, salt), func(b *testing.B) {
				set, err := Open(Options{Listeners: []config.Listener{tcp("http", "")}, Slots: 4 * slots})
				if err != nil {
					b.Fatal(err)
				}
				defer set.Close()
				var shares []Share
				for slot := range 2 * slots {
					files, err := set.Man(slot, []string{"http"}, testGeneration)
					if err != nil {
						b.Fatal(err)
					}
					closeFD(files[0].FD)
					shares = append(shares, Share{Slot: slot, Canary: slot >= slots})
				}
				for i := uint32(0); b.Loop(); i++ {
					for k := range shares {
						shares[k].Weight = 1 + i%100
						if shares[k].Canary {
							shares[k].Weight = 100 - i%100
						}
					}
					if err := set.Steer(shares, salt); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
