package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"github.com/masterd/masterd/test/service"
)

const (
	probeGap  = 500 * time.Microsecond // between two looks for the first answer
	firstWait = 20 * time.Second       // for the first answer
)

// benchReload compares the way from `masterd reload` to the first answer of the
// new version with the program's bare start.
func benchReload(ctx context.Context, p service.Programs, n int) error {
	for _, delay := range []time.Duration{0, 300 * time.Millisecond} {
		s, stop, err := started(ctx, p, func(c service.Config) {
			c.Set("rollout.bake", "50ms") // the next reload need not wait for a slot
			if delay > 0 {
				c.Set("worker.env.DEMO_START_DELAY", delay.String())
			}
		})
		if err != nil {
			return err
		}
		var bare, rolled []time.Duration
		for i := range n {
			d, err := bareStart(ctx, p, delay)
			if err == nil {
				bare = append(bare, d)
				d, err = reloadOnce(ctx, s, "r"+strconv.Itoa(i))
				rolled = append(rolled, d)
			}
			if err != nil {
				return errors.Join(err, stop())
			}
		}
		if err := stop(); err != nil {
			return err
		}
		b, r := median(bare), median(rolled)
		fmt.Printf("reload: program delayed by %s: bare start to first answer %s, `masterd reload` to first answer %s: +%s, x%.2f (medians of %d)\n",
			delay, b.Round(100*time.Microsecond), r.Round(100*time.Microsecond), (r - b).Round(100*time.Microsecond), float64(r)/float64(b), n)
	}
	return nil
}

// bareStart is the time from the start of the program alone to its first answer.
func bareStart(ctx context.Context, p service.Programs, delay time.Duration) (time.Duration, error) {
	addr, cmd := alone(p, "DEMO_START_DELAY="+delay.String())
	begun := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	err := firstAnswer(ctx, addr, "")
	took := time.Since(begun)
	_ = cmd.Process.Signal(syscall.SIGKILL)
	_ = cmd.Wait()
	return took, err
}

// alone is the demo worker without a master, on a free port.
func alone(p service.Programs, env ...string) (string, *exec.Cmd) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	addr := l.Addr().String()
	_ = l.Close()
	cmd := exec.Command(p.Demo, "-addr", addr)
	cmd.Env = append(cmd.Environ(), env...)
	return addr, cmd
}

// reloadOnce is the time from the start of the command to the first answer of
// the new version on a new connection.
func reloadOnce(ctx context.Context, s *service.Service, label string) (time.Duration, error) {
	type result struct {
		at  time.Time
		err error
	}
	first := make(chan result, 1)
	begun := time.Now()
	go func() {
		err := firstAnswer(ctx, s.Addr, label)
		first <- result{time.Now(), err}
	}()
	out, code := s.CLI(ctx, "reload", "--label", label, "--until", "baked")
	r := <-first
	if code != 0 {
		return 0, fmt.Errorf("reload ended with %d:\n%s", code, out)
	}
	return r.at.Sub(begun), r.err
}

// firstAnswer asks on new connections until the version answers (any, when
// none is named).
func firstAnswer(ctx context.Context, addr, version string) error {
	ctx, cancel := context.WithTimeout(ctx, firstWait)
	defer cancel()
	for ctx.Err() == nil {
		if v, err := ask(addr); err == nil && (version == "" || v == version) {
			return nil
		}
		time.Sleep(probeGap)
	}
	return fmt.Errorf("version %q did not answer on %s", version, addr)
}

func ask(addr string) (version string, err error) {
	c, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return "", err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Second))
	if _, err := c.Write([]byte("GET /ping HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")); err != nil {
		return "", err
	}
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	return r.Header.Get("X-Worker-Version"), nil
}
