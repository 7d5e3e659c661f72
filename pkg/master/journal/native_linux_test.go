package journal

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/api"
)

// systemdJournal is a socket such as systemd's journal has.
func systemdJournal(t *testing.T, path string) *net.UnixConn {
	t.Helper()
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// entry reads the next one, as systemd's journal does. A field that comes twice has all its
// values.
func entry(t *testing.T, l *net.UnixConn) map[string]string {
	t.Helper()
	b := make([]byte, 1<<20)
	if err := l.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	n, err := l.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	fields := map[string]string{}
	for rest := string(b[:n]); rest != ""; {
		first, after, whole := strings.Cut(rest, "\n")
		if !whole {
			t.Fatalf("a part of a field: %q", rest)
		}
		name, value, oneLine := strings.Cut(first, "=")
		if !oneLine {
			size := binary.LittleEndian.Uint64([]byte(after[:8]))
			name, value, after = first, after[8:8+size], after[8+size+1:]
		}
		fields[name] += value
		rest = after
	}
	return fields
}

func hasFields(t *testing.T, got map[string]string, want ...string) {
	t.Helper()
	wanted := map[string]bool{}
	for i := 0; i < len(want); i += 2 {
		wanted[want[i]] = true
		if got[want[i]] != want[i+1] {
			t.Errorf("%s is %q, want %q", want[i], got[want[i]], want[i+1])
		}
	}
	for name, value := range got {
		if !wanted[name] {
			t.Errorf("%s=%q is not wanted", name, value)
		}
	}
}

func TestNativeEntries(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	l := systemdJournal(t, path)
	j := open(t, Options{Service: "shop", PID: 11, Native: path})
	log := j.Logger()
	go func() {
		log.With(zap.Uint64("worker", 5)).Warn("worker gone", zap.Int("worker_pid", 99), zap.Error(errors.New("two\nlines\nPRIORITY=0")))
		log.Error("history", zap.Strings("files", []string{"a", "b"}), zap.Duration("its time", time.Second))
		line := api.LogLine{At: time.Now(), Worker: 7, Generation: 2, Version: "v1", Stream: "stdout"}
		for _, text := range []string{
			"plain\nMASTERD_WORKER=1\nPRIORITY=0", "<0>MASTERD_SERVICE=other", `{"level":"error","MASTERD_WORKER":1,"msg":"no"}`, "\x1b[31mred",
		} {
			line.Text = text
			j.Line(line, 33)
		}
		line.Stream, line.Text = "masterd", "3 lines were dropped"
		j.Line(line, 0)
	}()
	hasFields(t, entry(t, l), "PRIORITY", "4", "SYSLOG_IDENTIFIER", "masterd", "MASTERD_SERVICE", "shop",
		"MESSAGE", `worker gone  {"worker": 5, "worker_pid": 99, "error": "two\nlines\nPRIORITY=0"}`,
		"MASTERD_WORKER", "5", "MASTERD_WORKER_PID", "99", "MASTERD_ERROR", "two\nlines\nPRIORITY=0")
	hasFields(t, entry(t, l), "PRIORITY", "3", "SYSLOG_IDENTIFIER", "masterd", "MASTERD_SERVICE", "shop",
		"MESSAGE", `history  {"files": ["a", "b"], "its time": "1s"}`, "MASTERD_FILES", `["a","b"]`, "MASTERD_ITS_TIME", "1s")
	for _, w := range []struct{ priority, stream, pid, text string }{
		// What a worker prints is a value, whatever it looks like.
		{"6", "stdout", "33", `worker 7 (generation 2, v1) | plain\nMASTERD_WORKER=1\nPRIORITY=0`},
		{"6", "stdout", "33", `worker 7 (generation 2, v1) | <0>MASTERD_SERVICE=other`},
		{"3", "stdout", "33", `worker 7 (generation 2, v1) | {"level":"error","MASTERD_WORKER":1,"msg":"no"}`},
		{"6", "stdout", "33", `worker 7 (generation 2, v1) | \x1b[31mred`},
		{"4", "masterd", "", `worker 7 (generation 2, v1) * 3 lines were dropped`},
	} {
		want := []string{"PRIORITY", w.priority, "SYSLOG_IDENTIFIER", "masterd", "MASTERD_SERVICE", "shop", "MESSAGE", w.text,
			"MASTERD_WORKER", "7", "MASTERD_GENERATION", "2", "MASTERD_VERSION", "v1", "MASTERD_STREAM", w.stream}
		if w.pid != "" {
			want = append(want, "MASTERD_WORKER_PID", w.pid)
		}
		hasFields(t, entry(t, l), want...)
	}
}

// Who wants JSON has it, with the same priorities and fields.
func TestNativeJSON(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	l := systemdJournal(t, path)
	j := open(t, Options{Service: "shop", PID: 11, Native: path, Format: FormatJSON})
	j.Logger().Warn("gone", zap.Uint64("worker", 5))
	e := entry(t, l)
	same(t, object(t, e["MESSAGE"]), `{"level":"warn","service_name":"shop","master_pid":11,"msg":"gone","worker":5}`)
	if e["PRIORITY"] != "4" || e["MASTERD_WORKER"] != "5" {
		t.Errorf("%v", e)
	}
	j.Line(api.LogLine{Worker: 7, Text: "x"}, 3)
	if e := entry(t, l); object(t, e["MESSAGE"])["text"] != "x" || e["MASTERD_WORKER"] != "7" {
		t.Errorf("%v", e)
	}
}

// A journal that was restarted gets the lines after that; one that is gone or cannot take a
// line has it by standard error.
func TestNativeJournalComesAndGoes(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "socket")
	r, w := pipe(t)
	stderr := make(chan string, 1)
	go func() {
		text, _ := io.ReadAll(r)
		stderr <- string(text)
	}()
	l := systemdJournal(t, path)
	j := open(t, Options{Service: "shop", Stderr: w, Native: path})
	j.Logger().Info("one")
	if e := entry(t, l); e["MESSAGE"] != "one" {
		t.Errorf("%v", e)
	}
	j.Logger().Info("large", zap.String("x", strings.Repeat("x", 1<<20)))
	l.Close()
	_ = os.Remove(path)
	j.Logger().Info("two")
	j.out.flush()
	l = systemdJournal(t, path)
	j.Logger().Info("three")
	if e := entry(t, l); e["MESSAGE"] != "three" {
		t.Errorf("%v", e)
	}
	_ = j.Close()
	_ = w.Close()
	text := <-stderr
	if strings.Count(text, "\n") != 2 || !strings.Contains(text, `"msg":"large"`) || !strings.Contains(text, `"msg":"two"`) {
		t.Errorf("%d bytes on standard error", len(text))
	}
}

// A journal that hangs keeps nobody waiting, costs no time, and has everything once it reads.
func TestNativeJournalThatHangs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	l := systemdJournal(t, path)
	j := open(t, Options{Service: "shop", Native: path})
	const n = 200
	for range n {
		j.Logger().Info("line")
	}
	time.Sleep(500 * time.Millisecond) // it is full, and somebody waits
	var before, after syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &before)
	time.Sleep(2 * time.Second)
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &after)
	spent := time.Duration(after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano())
	t.Logf("it cost %v in 2s", spent)
	for range n {
		if e := entry(t, l); e["MESSAGE"] != "line" {
			t.Fatalf("%v", e)
		}
	}
	if own, workers := j.Lost(); own+workers != 0 {
		t.Errorf("lost %d, %d", own, workers)
	}
}
