package e2e

import (
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/test/service"
)

// What is certain of a new version ends its rollout long before health.start.timeout, and
// says what to set. What may yet change does not.

// soonFails reloads to what will never serve, which must be known long before its time.
func soonFails(t *testing.T, s *service.Service, says ...string) {
	t.Helper()
	s.Config.Set("health.start.timeout", "10m")
	begun := time.Now()
	out := reload(t, s, api.ReloadRequest{})
	if out.Result != api.ResultFailed || time.Since(begun) > patience {
		t.Errorf("after %s: %+v", time.Since(begun), out)
	}
	for _, text := range says {
		if !strings.Contains(out.Reason, text) {
			t.Errorf("%q is not in %q", text, out.Reason)
		}
	}
	if code, _, err := ask(s.Addr, "/ping", patience); err != nil || code != 200 {
		t.Error(code, err)
	}
}

// python is an interpreter that is no script itself; the test is skipped where there is none.
func python(t *testing.T) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "python3", "-c", "import sys; print(sys.executable)").Output()
	if err != nil {
		t.Skip("there is no python3 here")
	}
	return strings.TrimSpace(string(out))
}

func TestNotBuiltOnTheSDK(t *testing.T) {
	t.Parallel()
	s := started(t, nil)
	elsewhere := freePort(t)
	s.Config.Set("worker.command", []string{programs.Plain, elsewhere})
	soonFails(t, s, "it never spoke to masterd; it listens on "+elsewhere, "not built on pkg/worker", "worker.kind to unmodified")
	logged(t, s, "as kind sdk it will never be ready")
	if out := cli(t, s, 0, "check"); !strings.Contains(out, "warning: worker.kind: "+programs.Plain+" is a Go program that is not built on pkg/worker") {
		t.Errorf("check says:\n%s", out)
	}
	s.Config.Set("worker.command", []string{programs.Demo})
	next(t, s, 2, "serving")
	if out := cli(t, s, 0, "check"); strings.Contains(out, "worker.kind") {
		t.Errorf("check of what is built on it says:\n%s", out)
	}
}

// Another language may speak the protocol, and may be long in coming to it.
func TestPerhapsNotBuiltOnTheSDK(t *testing.T) {
	t.Parallel()
	interpreter := python(t)
	s := started(t, nil)
	elsewhere := freePort(t)
	host, port, _ := strings.Cut(elsewhere, ":")
	s.Config.Set("worker.command", []string{interpreter, "-m", "http.server", "--bind", host, port}).Set("health.start.give_up", "100ms")
	if err := s.Write(); err != nil {
		t.Fatal(err)
	}
	r := begin(t, s, "reload")
	logged(t, s, "it never spoke to masterd; it listens on "+elsewhere+"; is it built on pkg/worker? Otherwise set worker.kind")
	time.Sleep(time.Second) // it would have been given up ten times
	if st := status(t, s); st.Rollout == nil || st.Rollout.Stage != "start" {
		t.Errorf("it is not waited for any more: %+v", st.Rollout)
	}
	cli(t, s, 0, "abort")
	if out := r.ended(t, 1); !strings.Contains(out, "it listens on "+elsewhere) {
		t.Errorf("the reload has not told at once what is known:\n%s", out)
	}
}

const readyElsewhere = `
import os, socket, sys, time
s = socket.create_server((sys.argv[1], int(sys.argv[2])))
n = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
n.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"].replace("@", "\0"))
time.sleep(3600)
`

// A program that says that it is ready, and listens on another port than is configured.
func TestReadyOnAnotherPort(t *testing.T) {
	t.Parallel()
	interpreter := python(t)
	s := started(t, nil)
	elsewhere := freePort(t)
	host, port, _ := strings.Cut(elsewhere, ":")
	s.Config.Set("worker.kind", "unmodified").Set("worker.ready", "notify").
		Set("worker.command", []string{interpreter, write(t, s, "ready.py", readyElsewhere, 0o644), host, port})
	soonFails(t, s, "it has said READY=1 by sd_notify, but it has not bound", s.Addr, "it listens on "+elsewhere+" instead")
}
