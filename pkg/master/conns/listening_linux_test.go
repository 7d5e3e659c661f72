package conns

import (
	"net/netip"
	"os/exec"
	"slices"
	"testing"
)

// A process is known to listen where it does, and only there.
func TestListening(t *testing.T) {
	pid, at := serve(t, "127.0.0.1:0")
	other, elsewhere := serve(t, "127.0.0.1:0")
	if got, err := Listening([]int{pid}); err != nil || !slices.Equal(got, []netip.AddrPort{at}) {
		t.Errorf("%v, %v, want %s", got, err, at)
	}
	if got, err := Listening([]int{pid, other, pid}); err != nil || len(got) != 2 || !slices.Contains(got, at) || !slices.Contains(got, elsewhere) {
		t.Errorf("%v, %v, want %s and %s", got, err, at, elsewhere)
	}
	quiet := exec.Command("sleep", "60")
	if err := quiet.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = quiet.Process.Kill(); _ = quiet.Wait() }()
	if got, err := Listening([]int{quiet.Process.Pid}); err != nil || len(got) != 0 {
		t.Errorf("%v, %v, want none", got, err)
	}
}
