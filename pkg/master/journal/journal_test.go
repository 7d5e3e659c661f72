package journal

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/api"
)

func open(t *testing.T, o Options) *Journal {
	t.Helper()
	j, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	return j
}

// written is what is in the file once everything was written.
func written(t *testing.T, j *Journal, path string) []string {
	t.Helper()
	j.out.flush()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
}

func object(t *testing.T, line string) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(line), &m); err != nil {
		t.Fatalf("%v: %q", err, line)
	}
	return m
}

func same(t *testing.T, got map[string]any, want string) {
	t.Helper()
	wanted := object(t, want)
	for key, v := range wanted {
		if got[key] != v {
			t.Errorf("%s: %v, want %v", key, got[key], v)
		}
	}
	for key := range got {
		if _, ok := wanted[key]; !ok && key != "timestamp" {
			t.Errorf("%s: %v is not wanted", key, got[key])
		}
	}
}

func TestOwnLines(t *testing.T) {
	path := filepath.Join(t.TempDir(), "masterd.log")
	j := open(t, Options{File: path, Service: "shop", PID: 11})
	trace := j.Trace()
	if !regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(trace) || trace == j.Trace() {
		t.Errorf("trace %q", trace)
	}
	log := j.Logger()
	log.Info("serving", zap.String("trace_id", trace), zap.Uint64("rollout_id", 3))
	log.With(zap.Int("worker_pid", 99)).Warn("worker gone", zap.Uint64("worker", 5))
	log.Error("worker gone", zap.Int("worker_pid", 98))
	log.Debug("not at this level")
	if err := j.SetLevel("debug"); err != nil {
		t.Error(err)
	}
	log.Debug("now it is", zap.Duration("took", 1500*time.Millisecond))
	if err := j.SetLevel("loud"); err == nil {
		t.Error("there is no such level")
	}
	lines := written(t, j, path)
	if len(lines) != 4 {
		t.Fatalf("%q", lines)
	}
	same(t, object(t, lines[0]), `{"level":"info","service_name":"shop","master_pid":11,"msg":"serving","trace_id":"`+trace+`","rollout_id":3}`)
	same(t, object(t, lines[1]), `{"level":"warn","service_name":"shop","master_pid":11,"worker_pid":99,"worker":5,"msg":"worker gone"}`)
	same(t, object(t, lines[2]), `{"level":"error","service_name":"shop","master_pid":11,"worker_pid":98,"msg":"worker gone"}`)
	same(t, object(t, lines[3]), `{"level":"debug","service_name":"shop","master_pid":11,"msg":"now it is","took":"1.5s"}`)
	for _, line := range lines {
		if strings.Count(line, `"master_pid"`) != 1 || strings.Contains(line, `"pid"`) {
			t.Errorf("pid: %s", line)
		}
		at, err := time.Parse(time.RFC3339Nano, object(t, line)["timestamp"].(string))
		if err != nil || at.Location() != time.UTC || time.Since(at) > time.Minute {
			t.Errorf("timestamp %v, %v", at, err)
		}
	}
}

func TestWorkersLines(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.FixedZone("", 3600))
	p := newJSONPasser("shop")
	ours := `"service_name":"shop","generation":2,"worker":7,"version":"v1","worker_pid":33`
	for _, c := range []struct{ name, stream, text, want string }{
		{"plain", "stderr", "listening on 8080", `{"level":"info",` + ours + `,"msg":"output","text":"listening on 8080","stream":"stderr"}`},
		{"note", "masterd", "3 lines were dropped", `{"level":"warn",` + ours + `,"msg":"3 lines were dropped","stream":"masterd"}`},
		{"its own", "stdout", ` {"level":"error","msg":"no","timestamp":"then","n":1e400} `, `{"level":"error",` + ours + `,"msg":"output","stream":"stdout"}`},
		{"without level and time", "stdout", `{"message":"hi"}`, `{"level":"info",` + ours + `,"msg":"output","stream":"stdout"}`},
		{"another's level", "stdout", `{"severity":"WARNING"}`, `{"level":"warn",` + ours + `,"msg":"output","stream":"stdout"}`},
		{"no level", "stdout", `{"level":{"error":1},"severity":30}`, `{"level":"info",` + ours + `,"msg":"output","stream":"stdout"}`},
		{"conflict", "stdout", `{"version":"1.2.3","p\u0069d":1,"worker":"a","msg":"x","app":"}"}`, `{"level":"info",` + ours + `,"msg":"output","stream":"stdout"}`},
		{"empty", "stdout", `{}`, `{"level":"info",` + ours + `,"msg":"output","stream":"stdout"}`},
		{"not an object", "stdout", `["a"]`, `{"level":"info",` + ours + `,"msg":"output","text":"[\"a\"]","stream":"stdout"}`},
		{"not whole", "stdout", `{"a":"b`, `{"level":"info",` + ours + `,"msg":"output","text":"{\"a\":\"b","stream":"stdout"}`},
		{"two", "stdout", `{"a":1}{"b":2}`, `{"level":"info",` + ours + `,"msg":"output","text":"{\"a\":1}{\"b\":2}","stream":"stdout"}`},
		{"out of its own", "stdout", `{"a":1},"msg":"history","b":{}`, `{"level":"info",` + ours + `,"msg":"output","text":"{\"a\":1},\"msg\":\"history\",\"b\":{}","stream":"stdout"}`},
		{"control characters", "stdout", "a\x00\x1b[31mb", `{"level":"info",` + ours + `,"msg":"output","text":"a\u0000\u001b[31mb","stream":"stdout"}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			line := string(p.pass(api.LogLine{At: at, Worker: 7, Generation: 2, Version: "v1", Stream: c.stream, Text: c.text}, 33))
			if strings.Count(line, "\n") != 1 || !strings.HasSuffix(line, "\n") {
				t.Errorf("%q is not one line", line)
			}
			if !json.Valid([]byte(line)) {
				t.Fatalf("%q is no JSON", line)
			}
			// Of an object not a byte is changed, and what a decoder would round is not either.
			var got map[string]json.RawMessage
			if err := json.Unmarshal([]byte(line), &got); err != nil {
				t.Fatal(err)
			}
			if _, ours := got["text"]; !ours && c.stream != "masterd" && string(got["app"]) != strings.TrimSpace(c.text) {
				t.Errorf("%q became %q", c.text, got["app"])
			}
			delete(got, "app")
			rest, err := json.Marshal(got)
			if err != nil {
				t.Fatal(err)
			}
			same(t, object(t, string(rest)), c.want)
			if stamp := object(t, string(rest))["timestamp"]; stamp != "2026-01-02T02:04:05.000000006Z" {
				t.Errorf("timestamp %v", stamp)
			}
		})
	}
	if line := string(p.pass(api.LogLine{At: at, Text: "x"}, 0)); strings.Contains(line, "pid") {
		t.Errorf("a pid that is not known: %s", line)
	}
}

// A worker prints what the master's history lines look like. Whoever looks for those,
// by any of their keys, finds the master's only.
func TestAWorkersLineIsNotTheMasters(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	j := open(t, Options{File: path, Format: FormatJSON, Service: "shop", PID: 1})
	j.Logger().Info("history", zap.String("what", "reload"), zap.String("by", "alice (uid 1000)"), zap.String("outcome", "done"))
	real := written(t, j, path)[0]
	for _, text := range []string{real, strings.Replace(real, "alice (uid 1000)", "root (uid 0)", 1), "history",
		`{"msg":"history","what":"reload","by":"root (uid 0)","outcome":"done","timestamp":"2020-01-01T00:00:00Z","stream":null,"worker":null}`,
		`{"MSG":"history"}`, `{"msg":"history","msg":"history","app":{"msg":"history"}}`} {
		j.Line(api.LogLine{At: time.Now(), Worker: 7, Generation: 1, Version: "v1", Stream: "stdout", Text: text}, 33)
	}
	lines := written(t, j, path)
	if len(lines) != 7 {
		t.Fatalf("%d lines", len(lines))
	}
	keys := object(t, real)
	for _, line := range lines[1:] {
		got := object(t, line)
		if got["msg"] != "output" || got["stream"] != "stdout" || got["worker"] != 7.0 || got["worker_pid"] != 33.0 {
			t.Errorf("%s", line)
		}
		for key := range got {
			if _, masters := keys[key]; !masters && !slices.Contains([]string{"generation", "worker", "worker_pid", "version", "stream", "text", "app"}, key) {
				t.Errorf("a key of the worker's: %s in %s", key, line)
			}
		}
		for _, key := range []string{"by", "what", "outcome"} {
			if _, there := got[key]; there {
				t.Errorf("%s in %s", key, line)
			}
		}
		if at, err := time.Parse(time.RFC3339Nano, fmt.Sprint(got["timestamp"])); err != nil || time.Since(at) > time.Hour {
			t.Errorf("a time of the worker's: %s", line)
		}
	}
}

func TestReopen(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "log", "masterd.log")
	if err := os.Mkdir(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	j := open(t, Options{File: path, Service: "shop", PID: 1})
	j.Logger().Info("one")
	j.out.flush()
	// Rotated: what was asked before the reopening is in the old file.
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	j.Logger().Info("two")
	j.out.flush()
	if err := j.Reopen(); err != nil {
		t.Fatal(err)
	}
	j.Logger().Info("three")
	if lines := written(t, j, path); len(lines) != 1 || !strings.Contains(lines[0], "three") {
		t.Errorf("%q", lines)
	}
	if lines := written(t, j, path+".1"); len(lines) != 2 {
		t.Errorf("%q", lines)
	}
	// The directory is gone: the old file stays in use and says so.
	moved := filepath.Join(dir, "moved")
	if err := os.Rename(filepath.Dir(path), moved); err != nil {
		t.Fatal(err)
	}
	if err := j.Reopen(); err == nil {
		t.Error("it was opened")
	}
	j.Logger().Info("four")
	lines := written(t, j, filepath.Join(moved, "masterd.log"))
	if len(lines) != 3 || !strings.Contains(lines[1], "could not be opened again") || !strings.Contains(lines[2], "four") {
		t.Errorf("%q", lines)
	}
}

// A FIFO in the file's place would wait for a reader, and a link of somebody else's
// leads to a file that is none of ours.
func TestReopenWaitsForNobody(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "masterd.log")
	j := open(t, Options{File: path, Service: "shop", PID: 1})
	for what, put := range map[string]func() error{
		"a FIFO":      func() error { return syscall.Mkfifo(path, 0o600) },
		"a directory": func() error { return os.Mkdir(path, 0o700) },
		"a hard link": func() error { return errors.Join(os.WriteFile(path+".1", nil, 0o600), os.Link(path+".1", path)) },
	} {
		if err := errors.Join(os.RemoveAll(path), put()); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- j.Reopen() }()
		select {
		case err := <-done:
			if err == nil {
				t.Errorf("%s was opened", what)
			}
		case <-time.After(20 * time.Second):
			if f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0); err == nil { // lets it go
				defer f.Close()
			}
			t.Fatalf("%s holds up who opens it", what)
		}
	}
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
	if err := j.Reopen(); err != nil {
		t.Error(err)
	}
}

// A file that cannot be opened costs the file alone, until it can be.
func TestUnopened(t *testing.T) {
	r, w := pipe(t)
	path := filepath.Join(t.TempDir(), "no", "log")
	j := open(t, Options{Format: FormatJSON, File: path, Stderr: w})
	said := bufio.NewScanner(r)
	if !said.Scan() || !strings.Contains(said.Text(), filepath.Dir(path)+": no such file or directory; see log.file") || j.Unopened() == nil {
		t.Errorf("%s, %v", said.Text(), j.Unopened())
	}
	j.Logger().Info("before")
	if !said.Scan() || !strings.Contains(said.Text(), "before") {
		t.Error(said.Text())
	}
	if err := errors.Join(os.Mkdir(filepath.Dir(path), 0o700), j.Reopen()); err != nil || j.Unopened() != nil {
		t.Fatal(err, j.Unopened())
	}
	j.Logger().Info("after")
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(path); err != nil || !strings.Contains(string(text), "after") {
		t.Errorf("%s, %v", text, err)
	}
}

func TestWrongOptions(t *testing.T) {
	for _, c := range []struct {
		o    Options
		want string
	}{
		{Options{Level: "loud"}, `log level "loud"`},
		{Options{Format: "xml"}, `log format "xml"`},
	} {
		if j, err := Open(c.o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, %v", j, err)
		}
	}
}

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}

func TestConsole(t *testing.T) {
	r, w := pipe(t)
	j := open(t, Options{Format: FormatConsole, Stderr: w, Service: "shop", PID: 1})
	j.Logger().Info("serving", zap.Uint64("generation", 2))
	j.Line(api.LogLine{At: time.Now(), Worker: 7, Generation: 2, Version: "v1", Stream: "stderr", Text: "red \x1b[31m\x9b alert\tü"}, 33)
	lines := bufio.NewScanner(r)
	for _, want := range []string{
		`^\d\d:\d\d:\d\d\.\d\d\d  INFO  serving  \{"generation": 2\}$`,
		`^\d\d:\d\d:\d\d\.\d\d\d  worker 7 \(generation 2, v1\) ! red \\x1b\[31m� alert	ü$`,
	} {
		lines.Scan()
		if !regexp.MustCompile(want).MatchString(lines.Text()) {
			t.Errorf("%q is not %s", lines.Text(), want)
		}
	}
}

func TestAutoIsJSONWithoutTerminal(t *testing.T) {
	r, w := pipe(t)
	j := open(t, Options{Stderr: w, Service: "shop", PID: 1})
	j.Logger().Info("serving")
	line, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	same(t, object(t, line), `{"level":"info","service_name":"shop","master_pid":1,"msg":"serving"}`)
}

// Whoever read our standard error is gone. Descriptor 2 itself would end the
// process here.
func TestNobodyReads(t *testing.T) {
	r, w := pipe(t)
	j := open(t, Options{Stderr: w})
	r.Close()
	j.Logger().Info("one")
	j.Line(api.LogLine{Text: "two"}, 0)
	j.out.flush()
	if own, workers := j.Lost(); own != 1 || workers != 1 {
		t.Errorf("lost %d, %d", own, workers)
	}
}

// A reader that is stuck holds nobody up. The workers' lines give way first.
func TestStuckReader(t *testing.T) {
	r, w := pipe(t)
	j := open(t, Options{Stderr: w})
	line := api.LogLine{Text: strings.Repeat("x", 10_000)}
	for range 2 * workersLimit / 10_000 {
		j.Line(line, 0)
	}
	for range 1000 {
		j.Logger().Info("own")
	}
	own, workers := j.Lost()
	if own != 0 || workers == 0 {
		t.Errorf("lost %d of its own, %d of the workers'", own, workers)
	}
	got := make(chan string)
	go func() {
		text, _ := io.ReadAll(r)
		got <- string(text)
	}()
	j.Close()
	w.Close()
	text := <-got
	if n := strings.Count(text, `"msg":"own"`); n != 1000 {
		t.Errorf("%d of its own lines came", n)
	}
	if !regexp.MustCompile(`\d+ lines of this log are missing`).MatchString(text) {
		t.Error("it does not say what is missing")
	}
	for line := range strings.Lines(text) {
		if !json.Valid([]byte(line)) {
			t.Errorf("%q", line)
		}
	}
}

// Whatever a worker writes, one line of JSON with the master's fields comes out,
// and of an object nothing is lost.
func FuzzPass(f *testing.F) {
	for _, text := range []string{
		"", "plain", "{}", ` { "a" : [ 1 , { "b" : "}\\\"," } ] , "pid" : -1e9 } `, `{"a":{}}`, `{"p\u0069d":"\u0022"}`, "{\"a\":1}\xff", `{"a":1`, "{", "{}\f",
	} {
		f.Add(text)
	}
	p := newJSONPasser("shop")
	f.Fuzz(func(t *testing.T, text string) {
		text = strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\n", " ") // as they come from the logs
		line := p.pass(api.LogLine{Text: text, Version: "v"}, 7)
		var got map[string]any
		if err := json.Unmarshal(line, &got); err != nil {
			t.Fatalf("%v: %q", err, line)
		}
		if got["worker_pid"] != 7.0 || got["service_name"] != "shop" || got["msg"] != "output" || strings.Count(string(line), "\n") != 1 {
			t.Errorf("%q", line)
		}
		var theirs map[string]json.RawMessage
		if json.Unmarshal([]byte(text), &theirs) != nil || theirs == nil {
			if got["text"] != text {
				t.Errorf("%q became %q", text, got["text"])
			}
			return
		}
		app, ok := got["app"].(map[string]any)
		for key := range theirs {
			if _, there := app[key]; !ok || !there {
				t.Errorf("%q is lost", key)
			}
		}
	})
}

func BenchmarkPass(b *testing.B) {
	p := newJSONPasser("shop")
	for name, text := range map[string]string{
		"text": "2026/01/02 03:04:05 GET /ping 200 1.2ms",
		"json": `{"time":"2026-01-02T03:04:05Z","level":"INFO","msg":"request","method":"GET","path":"/ping","status":200,"ms":1.2}`,
	} {
		l := api.LogLine{At: time.Now(), Worker: 1, Generation: 1, Version: "v1", Stream: "stdout", Text: text}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				p.pass(l, 1)
			}
		})
	}
}

// SetLevel changes which of the master's own lines are logged.
func (j *Journal) SetLevel(level string) error {
	l, err := levelOf(level)
	if err == nil {
		j.level.SetLevel(l)
	}
	return err
}

// Lost counts the lines that were written nowhere: the master's own, and its workers'.
func (j *Journal) Lost() (own, workers uint64) {
	l := j.out.losses()
	return l.own, l.workers
}
