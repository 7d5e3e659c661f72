package e2e

import (
	"strings"
	"testing"

	"github.com/masterd/masterd/pkg/api"
)

// A worker that says that it is ready and refuses every check in the same way goes on so.
func TestRefusedChecks(t *testing.T) {
	t.Parallel()
	s := started(t, nil)
	s.Config.Set("health.http.path", "/nothing-there")
	soonFails(t, s, "GET /nothing-there: 404 Not Found; set health.http.path to one that it answers")
}

// Who only listens may answer so while it comes up.
func TestRefusedChecksOfOneThatComesUp(t *testing.T) {
	t.Parallel()
	interpreter := python(t)
	s := started(t, nil)
	host, port, _ := strings.Cut(s.Addr, ":")
	s.Config.Set("worker.kind", "unmodified").Set("worker.command", []string{interpreter, "-m", "http.server", "--bind", host, port}).
		Set("health.http", map[string]any{"path": "/nothing-there"}).
		Set("health.start", map[string]any{"give_up": "100ms", "timeout": "4s"})
	out := reload(t, s, api.ReloadRequest{})
	if out.Result != api.ResultFailed || !strings.Contains(out.Reason, "did not pass its health checks within 4s (the last failed one: "+
		"GET /nothing-there: 404 Not Found; set health.http.path to one that it answers") {
		t.Errorf("%+v", out)
	}
}
