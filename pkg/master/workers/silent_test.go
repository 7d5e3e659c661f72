package workers

import (
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// What is certain of a worker that never spoke is only what is seen: that it listens, and that
// no program of its own can speak.
func TestDescribeSilence(t *testing.T) {
	at := []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:29211"), netip.MustParseAddrPort("[::]:9090")}
	for _, c := range []struct {
		listens      []netip.AddrPort
		mute, speaks bool
		vain         bool
		says         []string
		not          string
	}{
		{nil, false, false, false, []string{"never spoke", "is it built on pkg/worker?"}, "listens"},
		{at, false, false, false, []string{"it listens on 127.0.0.1:29211, [::]:9090", "is it built on pkg/worker?"}, "Go program"},
		{nil, true, false, false, []string{"is a Go program that is not built on pkg/worker"}, "listens"},
		{at, true, false, true, []string{"it listens on 127.0.0.1:29211", "is a Go program that is not built on pkg/worker"}, "?"},
		{at, false, true, false, []string{"it listens on 127.0.0.1:29211"}, "built"}, // it is yet to come to it
	} {
		detail, vain := describeSilence(c.listens, c.mute, c.speaks)
		if vain != c.vain || strings.Contains(detail, c.not) {
			t.Errorf("%+v: %q, in vain %v", c, detail, vain)
		}
		for _, text := range c.says {
			if !strings.Contains(detail, text) {
				t.Errorf("%+v: %q is not in %q", c, text, detail)
			}
		}
	}
}

// waiting starts a program that waits for its input.
func waiting(t *testing.T, program string, args ...string) (pid int) {
	t.Helper()
	cmd := exec.Command(program, args...)
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd.Process.Pid
}

// One process that may speak, or that is not known, is enough for all.
func TestWhoCanSpeak(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("it looks into /proc")
	}
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	gofmt := filepath.Join(strings.TrimSpace(string(root)), "bin", "gofmt")
	self, mute, unknown := os.Getpid(), waiting(t, gofmt), waiting(t, "cat") // this one has the SDK's words in it
	for _, c := range []struct {
		pids             []int
		allMute, speaker bool
	}{
		{nil, false, false}, {[]int{mute}, true, false}, {[]int{mute, mute}, true, false}, {[]int{unknown}, false, false},
		{[]int{mute, unknown}, false, false}, {[]int{self}, false, true}, {[]int{mute, self}, false, true}, {[]int{mute, -1}, false, false},
	} {
		known := programs{}
		for range 2 { // also when it is remembered
			if allMute, speaks := known.look(c.pids); allMute != c.allMute || speaks != c.speaker {
				t.Errorf("%v of (self %d, mute %d, unknown %d): all mute %v, speaks %v", c.pids, self, mute, unknown, allMute, speaks)
			}
		}
	}
}
