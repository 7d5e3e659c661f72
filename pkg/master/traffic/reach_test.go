package traffic

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/masterd/masterd/pkg/master/listen"
)

// Only what fails twice while who serves is reached is a candidate's fault; and the answer
// comes before the candidate is given up for its silence.
func TestReach(t *testing.T) {
	bad := errors.New("connection refused")
	for name, c := range map[string]struct {
		tries   []error // of the candidate; the last one goes on
		serving error
		each    time.Duration
		want    error
	}{
		"is reached":                {tries: []error{nil}},
		"fails twice":               {tries: []error{bad}, each: reachTry, want: bad},
		"fails once":                {tries: []error{bad, nil}},
		"fails in the third":        {tries: []error{bad, nil, bad}, want: bad},
		"who serves is not reached": {tries: []error{bad}, serving: bad, want: errUnknown},
		"is slow":                   {tries: []error{errSlow}, want: errSlow},
		"fails once and is slow":    {tries: []error{bad, nil}, each: 1300 * time.Millisecond, want: errSlow},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				room := New(Options{Sockets: noSockets{}})
				begun := time.Now()
				err := room.reach(1, "http", func(slot int, _ string) (err error) {
					time.Sleep(c.each)
					if slot == 0 {
						return c.serving
					}
					err = c.tries[0]
					if len(c.tries) > 1 {
						c.tries = c.tries[1:]
					}
					return err
				}, 0, begun.Add(reachLimit))
				if !errors.Is(err, c.want) {
					t.Errorf("%v, want %v", err, c.want)
				}
				if took := time.Since(begun); took >= 5*time.Second {
					t.Errorf("it took %s", took)
				}
			})
		})
	}
}

// noSockets knows of nothing that listens.
type noSockets struct{ Sockets }

func (noSockets) Places(int, []string) ([]listen.Place, error) { return nil, nil }
