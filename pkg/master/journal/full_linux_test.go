package journal

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("journal-test", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("needs root: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	r, w := pipe(t)
	stderr := make(chan string)
	go func() {
		text, _ := io.ReadAll(r)
		stderr <- string(text)
	}()
	path := filepath.Join(dir, "masterd.log")
	j := open(t, Options{File: path, Stderr: w, PID: 1})
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 32<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	const n = 500
	for i := range n {
		j.Logger().Info("line", zap.Int("i", i))
	}
	j.out.flush()
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	j.Logger().Info("after")
	lines := written(t, j, path)
	j.Close()
	w.Close()
	spilled := <-stderr
	seen := map[float64]int{}
	for _, line := range append(lines, strings.Split(strings.TrimSpace(spilled), "\n")...) {
		if !json.Valid([]byte(line)) { // the one that only half fitted
			continue
		}
		if m := object(t, line); m["msg"] == "line" {
			seen[m["i"].(float64)]++
		}
	}
	if len(seen) != n {
		t.Errorf("%d of %d lines are somewhere", len(seen), n)
	}
	if !strings.Contains(spilled, "cannot be written, its lines come here") {
		t.Errorf("standard error: %.300s", spilled)
	}
	last := lines[len(lines)-2:]
	if !strings.Contains(last[0], "lines are missing here and went to standard error") || !strings.Contains(last[1], "after") {
		t.Errorf("%q", last)
	}
	if own, workers := j.Lost(); own+workers != 0 {
		t.Errorf("lost %d, %d", own, workers)
	}
}
