package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/test/service"
)

// spareFDs are descriptors that a process needs for other things than clients.
const spareFDs = 300

// benchHandover reloads a worker that has n idle connections, and back, and
// wants every one of them to be answered afterwards on the same connection.
func benchHandover(ctx context.Context, p service.Programs, n int) error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	if most := int(limit.Max) - spareFDs; n > most {
		fmt.Printf("handover: %d connections, as no process may have more than %d descriptors here\n", most, limit.Max)
		n = most
	}
	s, stop, err := started(ctx, p, func(c service.Config) { c.Set("rollout.bake", "10m") })
	if err != nil {
		return err
	}
	defer func() { _ = stop() }()
	clients, err := idleClients(s.Addr, n)
	if err != nil {
		return err
	}
	defer func() {
		for _, c := range clients {
			c.Close()
		}
	}()
	old, err := s.Worker(ctx)
	if err != nil {
		return err
	}
	before, err := pss(old)
	if err != nil {
		return err
	}
	s.Config.Set("worker.env.RELEASE", "next")
	if err := s.Write(); err != nil {
		return err
	}
	// moved waits until the giver has no client any more, from the steer on.
	moved := func(what string, giver, taker int, giverBefore, takerBefore time.Duration) error {
		for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
			left, err := descriptors(giver)
			if err != nil {
				return err
			}
			if left < spareFDs/2 {
				break
			}
			if time.Now().After(end) {
				return fmt.Errorf("%s: the giver still has %d descriptors", what, left)
			}
		}
		now := time.Now()
		st, err := s.API.Status(ctx)
		if err != nil {
			return err
		}
		used, err := cpuTimes([]int{giver, taker})
		if err != nil {
			return err
		}
		took := now.Sub(st.Active.Since)
		fmt.Printf("handover, %s: %d idle connections in %s from the steer on, %.1f µs each; CPU for each %.1f µs in the giver, %.1f µs in the taker\n",
			what, n, took.Round(time.Millisecond), us(took, n), us(used[0]-giverBefore, n), us(used[1]-takerBefore, n))
		return nil
	}
	used, err := cpuTime(old)
	if err != nil {
		return err
	}
	if _, err := s.API.Reload(ctx, api.ReloadRequest{}, nil); err != nil {
		return err
	}
	next, err := s.Worker(ctx)
	if err != nil {
		return err
	}
	if err := moved("reload", old, next, used, 0); err != nil { // its start is the taker's too
		return err
	}
	gave, err := pss(old)
	if err != nil {
		return err
	}
	took, err := pss(next)
	if err != nil {
		return err
	}
	fmt.Printf("handover: memory (PSS) of the giver %d MiB before and %d MiB after, of the taker %d MiB after\n", before>>20, gave>>20, took>>20)
	if err := answered(clients, "reload"); err != nil {
		return err
	}
	both, err := cpuTimes([]int{next, old})
	if err != nil {
		return err
	}
	if _, err := s.API.Rollback(ctx, api.RollbackRequest{}, nil); err != nil {
		return err
	}
	if err := moved("rollback", next, old, both[0], both[1]); err != nil {
		return err
	}
	return answered(clients, "rollback")
}

func us(d time.Duration, n int) float64 { return float64(d.Microseconds()) / float64(n) }

// idleClients are connections that have had one answer each.
func idleClients(addr string, n int) (all []net.Conn, err error) {
	for i := range n {
		// One address has not ports for all of them.
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+i%8))}}
		c, err := d.Dial("tcp", addr)
		if err != nil {
			return all, err
		}
		all = append(all, c)
	}
	return all, answered(all, "dial")
}

// answered makes a request on each connection.
func answered(clients []net.Conn, after string) error {
	in := bufio.NewReader(nil)
	for i, c := range clients {
		in.Reset(c)
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.WriteString(c, "GET /ping HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			return fmt.Errorf("connection %d after the %s: %w", i, after, err)
		}
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			return fmt.Errorf("connection %d after the %s: %w", i, after, err)
		}
		_, _ = io.Copy(io.Discard, res.Body)
		if res.StatusCode != http.StatusOK || res.Close {
			return fmt.Errorf("connection %d after the %s: status %d, close %v", i, after, res.StatusCode, res.Close)
		}
	}
	return nil
}

// pss is a process's memory, what it shares counted in parts (proc(5), smaps_rollup).
func pss(pid int) (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, err
	}
	for _, line := range strings.Split(string(b), "\n") {
		if v, ok := strings.CutPrefix(line, "Pss:"); ok {
			kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(v), " kB"), 10, 64)
			return kb << 10, err
		}
	}
	return 0, fmt.Errorf("no Pss in /proc/%d/smaps_rollup", pid)
}

// descriptors counts those of a process.
func descriptors(pid int) (int, error) {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	st, err := os.Stat(dir)
	if err != nil {
		return 0, err
	}
	if st.Size() > 0 { // Linux 6.2 and later
		return int(st.Size()), nil
	}
	all, err := os.ReadDir(dir)
	return len(all), err
}
