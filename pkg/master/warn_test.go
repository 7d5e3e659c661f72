package master

import (
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/master/journal"
	"github.com/masterd/masterd/pkg/master/session"
)

// A worker that reconnects two thousand times a second has one line a second, which says
// how many there would have been.
func TestWhatAWorkerBringsAboutIsMerged(t *testing.T) {
	run(t, testConfig(), func(w *world, m *Master) {
		until(t, "it serves", serves(w, "v1"))
		path := t.TempDir() + "/log"
		j, err := journal.Open(journal.Options{Level: "debug", Format: "json", File: path, Service: "test"})
		if err != nil {
			t.Fatal(err)
		}
		defer j.Close()
		const lost, refused = "the control connection to a worker is lost", "a worker refused what it was asked"
		m.loop.Call(func() { m.workers.Log = j.Logger() })
		for range 3000 {
			one := w.of("v1")
			one.fact(session.Fact{Kind: session.Lost, Text: "the worker closed it"})
			one.fact(session.Fact{Kind: session.Refused, Text: "no"})
			time.Sleep(time.Second / 2000)
		}
		m.loop.Call(func() { m.workers.Log = zap.NewNop() })
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(text), lost); n != 2 {
			t.Errorf("%d lines about a lost connection in 1.5 s", n)
		}
		if n := strings.Count(string(text), refused); n != 2 {
			t.Errorf("%d lines about a refusal in 1.5 s", n)
		}
		if !strings.Contains(string(text), `"more_since_last_line":1999`) {
			t.Error("it is not said how many there were")
		}
	})
}
