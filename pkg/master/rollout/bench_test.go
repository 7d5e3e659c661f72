package rollout

import (
	"testing"
	"time"
)

// BenchmarkBeat is a heartbeat at a quiet moment, BenchmarkProbed an answer of
// a health check: what an idle service costs the loop.
func BenchmarkBeat(b *testing.B)   { benchmarkStep(b, Beat{Worker: 1}) }
func BenchmarkProbed(b *testing.B) { benchmarkStep(b, Probed{Worker: 1, OK: true}) }

func benchmarkStep(b *testing.B, ev Event) {
	s := newStory(nil)
	s.settings.Processes = 8
	s.line([]string{"given", "start", "v1"})
	s.line([]string{"given", "play", "5m"})
	b.ReportAllocs()
	for b.Loop() {
		s.now = s.now.Add(time.Microsecond)
		for _, w := range s.m.generations[0].workers {
			w.probing = true
		}
		s.m.Step(s.now, ev)
	}
}
