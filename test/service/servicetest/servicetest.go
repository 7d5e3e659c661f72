// Package servicetest lays out a [service.Service] for a test, and cleans up after it.
package servicetest

import (
	"os"
	"testing"

	"github.com/masterd/masterd/test/service"
)

// logLines of the master's log are shown when a test fails.
const logLines = 60

// New lays out a service that is stopped when the test ends.
func New(t *testing.T, p service.Programs) *service.Service {
	t.Helper()
	return In(t, p, ShortDir(t))
}

// In is [New] in a directory that is there.
func In(t *testing.T, p service.Programs, dir string) *service.Service {
	t.Helper()
	s, err := service.New(p, dir)
	if err != nil {
		t.Fatal(err)
	}
	StopAtEnd(t, s)
	return s
}

// StopAtEnd stops a service when the test ends, and shows the end of its master's log if
// the test has failed.
func StopAtEnd(t *testing.T, s *service.Service) {
	t.Helper()
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("the end of the master's log:\n%s", s.Log(logLines))
		}
	})
}

// ShortDir is a temporary directory that all may enter, and whose name leaves room for
// that of a Unix socket.
func ShortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "md-")
	if err == nil {
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}
