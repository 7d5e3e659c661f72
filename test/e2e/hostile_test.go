package e2e

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/test/service"
)

// answersLimit is how long masterd may take to tell its status, whatever a worker does,
// on a machine that is busy.
const answersLimit = 5 * time.Second

// answers wants the status in time, for a while.
func answers(t *testing.T, s *service.Service, n int) {
	t.Helper()
	for range n {
		ctx, cancel := context.WithTimeout(t.Context(), answersLimit)
		_, err := s.API.Status(ctx)
		cancel()
		if err != nil {
			t.Fatalf("masterd does not answer while a worker has what it sent hang: %v", err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// What a worker sends may take for ever to be closed. That is waited for by nobody but
// the goroutine that reads from this worker: not by the loop, not by the keeper, not by
// the end.
func TestWhatAWorkerSendsMayHang(t *testing.T) {
	besideOthers(t)
	for name, texts := range map[string][]string{
		"barrier": {"BARRIER=1"},
		"stored":  {"FDSTORE=1\nFDNAME=a", "FDSTOREREMOVE=1\nFDNAME=a"},
		"beyond":  {"FDSTORE=1\nFDNAME=a", "FDSTORE=1\nFDNAME=a", "FDSTORE=1\nFDNAME=a", "FDSTORE=1\nFDNAME=a"},
		"refused": {"no assignment"},
		"queued":  {"BARRIER=1", "BARRIER=1", "BARRIER=1", "BARRIER=1", "BARRIER=1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := unprepared(t)
			s.Config.Set("worker.kind", "socket-activation").Set("worker.fd_store", 2).
				Set("rollout.bake", "0s").Set("drain.timeout", "20s").
				Set("worker.command", append([]string{programs.Hostile, "hangs", s.Addr}, texts...))
			hangs(t, s)
		})
	}
	t.Run("control", func(t *testing.T) {
		t.Parallel()
		s := newService(t)
		s.Config.Set("health.start.timeout", "10s").Set("worker.command", []string{programs.Hostile, "hangs-control", s.Addr})
		if err := s.Launch(); err != nil {
			t.Fatal(err)
		}
		turnedInLog(t, s)
		answers(t, s, 20)
		s.Config.Set("worker.command", []string{programs.Demo})
		if out := reload(t, s, api.ReloadRequest{Label: "v2"}); out.Result != api.ResultDone {
			t.Fatalf("%+v", out)
		}
	})
}

func turnedInLog(t *testing.T, s *service.Service) {
	t.Helper()
	eventually(t, "the worker to have sent it", func() bool { return strings.Contains(s.Log(10_000), "has turned") })
}

func hangs(t *testing.T, s *service.Service) {
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	turnedInLog(t, s)
	answers(t, s, 20)
	keeper := status(t, s).Master.Keeper
	s.Kill()
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if now := status(t, s).Master.Keeper; now != keeper {
		t.Errorf("the keeper did not answer and was replaced: %d is it now, and was %d", now, keeper)
	}
	s.Config.Set("worker.command", []string{programs.Hostile, "serves", s.Addr})
	freshly(t, s, func() { next(t, s, 2, "baked") })
	answers(t, s, 5)
}

// A candidate that passes its checks and whose listener lets nobody in gets no client:
// one connection by its socket finds that out, before the traffic moves.
func TestWhoCannotBeReachedGetsNoClient(t *testing.T) {
	besideOthers(t)
	for _, kind := range []string{"tcp", "unix", "socket-activation"} {
		for _, way := range []string{"ttl", "filter", "filter-data", "lowat", "shutdown", "lowat, with time"} {
			if kind == "unix" && way != "shutdown" || kind == "socket-activation" && way != "ttl" {
				continue // they are TCP's; and all checks of other kinds go by the socket
			}
			t.Run(way+"/"+kind, func(t *testing.T) {
				t.Parallel()
				s := newService(t)
				if strings.HasPrefix(way, "filter") { // Linux 6.18 wants it for that
					if os.Geteuid() != 0 {
						t.Skip("attaching a filter may need a capability that root alone can give")
					}
					s.Config.Set("worker.capabilities", []string{"CAP_NET_ADMIN"})
				}
				way, patient := strings.CutSuffix(way, ", with time") // of which the answer by the socket is not the proof
				if patient {
					s.Config.Set("health.active.timeout", "10s")
				}
				as, why := "sdk", "do not reach it by its socket"
				switch kind {
				case "unix":
					s.Addr = s.Dir + "/s"
					s.Config.Set("listeners", listeners("http", "unix://"+s.Addr))
				case "socket-activation":
					as, why = "spoils", "did not pass its health checks"
					s.Config.Set("worker.kind", kind).Set("health.start.timeout", "4s")
				}
				s.Config.Set("worker.env.RELEASE", "v1").Set("worker.command", []string{programs.Hostile, as, s.Addr, "nothing"})
				if err := s.Start(t.Context()); err != nil {
					t.Fatal(err)
				}
				baked(t, s)
				s.Config.Set("worker.env.RELEASE", "v2").Set("worker.command", []string{programs.Hostile, as, s.Addr, way})
				freshly(t, s, func() {
					out := reload(t, s, api.ReloadRequest{Label: "v2"})
					if out.Result != api.ResultFailed || !strings.Contains(out.Reason, why) {
						t.Errorf("%+v", out)
					}
					s.Config.Set("worker.env.RELEASE", "v3").Set("worker.command", []string{programs.Hostile, as, s.Addr, "nothing"})
					next(t, s, 3, "baked")
				})
				from(t, s, "v3", 20)
			})
		}
	}
}

// A program that takes long for each answer, and has been given the time, is none of these.
func TestWhoAnswersSlowlyIsReached(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.Config.Set("health.active.timeout", "10s")
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	baked(t, s)
	s.Config.Set("worker.env.DEMO_HEALTH_DELAY", "2s")
	if out := reload(t, s, api.ReloadRequest{Label: "v2", Until: "serving"}); out.Result != api.ResultDone {
		t.Errorf("%+v", out)
	}
	logged(t, s, "answers take too long to wait for them")
}
