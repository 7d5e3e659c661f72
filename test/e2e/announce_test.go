package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/test/service"
)

// looks is how many checks in a row must fail until a load balancer believes it.
const looks = 10

// lookAway asks /readyz as a load balancer does, on one kept connection, until
// it is told to look away. All else goes on meanwhile: the connection too.
func lookAway(t *testing.T, addr string) (asked int) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	br := bufio.NewReader(c)
	failed := 0
	for limit := time.Now().Add(patience); time.Now().Before(limit); asked++ {
		fmt.Fprint(c, "GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
		res, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatalf("readiness check %d: %v", asked, err)
		}
		body, _ := io.ReadAll(res.Body)
		switch {
		case res.Close:
			t.Fatalf("readiness check %d was told to close: %d %s", asked, res.StatusCode, body)
		case res.StatusCode == 503 && string(body) == "stopping\n":
			if failed++; failed == looks {
				return asked
			}
		case res.StatusCode != 200 || failed > 0:
			t.Fatalf("readiness check %d: %d %s", asked, res.StatusCode, body)
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("%d readiness checks, and it was never told to look away", asked)
	return 0
}

// A load balancer that asks for readiness has looked away before the drain
// begins: nobody's request fails, whoever asks for the stop and how.
func TestAnAnnouncedStopLosesNothing(t *testing.T) {
	besideOthers(t)
	for name, x := range map[string]struct {
		key  string
		stop func(t *testing.T, s *service.Service)
	}{
		"asked by masterd stop": {"0", func(t *testing.T, s *service.Service) {
			if out, code := s.CLI(t.Context(), "stop", "--announce", "4s"); code != 0 {
				t.Errorf("stop: exit %d: %s", code, out)
			}
		}},
		"by TERM": {"4s", func(t *testing.T, s *service.Service) {
			if err := s.Signal(syscall.SIGTERM); err != nil {
				t.Error(err)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := started(t, func(c service.Config) { c.Set("stop_announce", x.key).Set("rollout.bake", "1h") })
			// A parked generation beside the active one: it is told too.
			next(t, s, 2, "serving")
			end := start(t, s, quietRate())
			pid := loaded(t, s)
			begun := time.Now()
			stopped := make(chan struct{})
			go func() { defer close(stopped); x.stop(t, s) }()
			asked := lookAway(t, s.Addr)
			seen := time.Now()
			st := status(t, s)
			if st.State != "stopping" || st.Drains.Before(seen) || len(st.Reasons) == 0 || !strings.Contains(st.Reasons[0], "they drain in ") {
				t.Errorf("status %s, drains %s, %q", st.State, st.Drains, st.Reasons)
			}
			if page, _ := s.CLI(t.Context(), "status"); !strings.Contains(page, "Announced: workers serve on") {
				t.Errorf("status does not tell:\n%s", page)
			}
			for _, g := range st.Generations {
				for _, w := range g.Workers {
					if w.PID == pid && w.Phase != "active" {
						t.Errorf("worker %d is %s", w.ID, w.Phase)
					}
				}
			}
			res := end()
			if n := res.Failed(); n > 0 || res.Requests == 0 {
				t.Errorf("%d of %d requests failed:\n%s", n, res.Requests, res)
			}
			if time.Now().Before(st.Drains) && res.ClosedPolitely > 0 { // else the machine is too slow to see it
				t.Errorf("%d connections were asked to leave before the drain", res.ClosedPolitely)
			}
			<-stopped
			select {
			case <-s.Ended():
			case <-time.After(patience):
				t.Fatal("the master does not end")
			}
			if code, took := s.ExitCode(), time.Since(begun); code != 0 || took < 4*time.Second {
				t.Errorf("exit %d after %s", code, took)
			}
			t.Logf("told at check %d, %s after the stop; %d requests, ended after %s", asked, seen.Sub(begun), res.Requests, time.Since(begun))
		})
	}
}

// Who does not want to wait asks again, and the drain begins; a third time ends it.
func TestAnAnnouncementCanBeSkipped(t *testing.T) {
	t.Parallel()
	s := started(t, func(c service.Config) { c.Set("stop_announce", "1h") })
	baked(t, s)
	a := slowly(t, s, 2*time.Second)
	stuck := slowly(t, s, time.Minute)
	if err := s.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	lookAway(t, s.Addr)
	if err := s.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	wait(t, s, "the drain", func(st api.Status) bool {
		return st.State == "stopping" && st.Drains.IsZero() && len(draining(st))+len(st.Generations) > 0 && st.Generations[0].Workers[0].Phase == "draining"
	})
	a.good(t)
	if err := s.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-stuck.done
	select {
	case <-s.Ended():
	case <-time.After(patience):
		t.Fatal("the master does not end")
	}
	if log := s.Log(100); !strings.Contains(log, "was stopped, as a second stop was asked for; ") {
		t.Error("the log does not tell what that cut")
	}
}
