package conns

import (
	"net/netip"
	"testing"
	"testing/synctest"

	"github.com/masterd/masterd/pkg/master/sockdiag"
)

// Who asks what was learnt, the master's loop for one, does not wait for a look at a table
// that the kernel takes long to list.
func TestWhatWasLearntIsToldDuringALook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := NewWatch()
		listed := make(chan struct{})
		w.table = func(sockdiag.Query, func(sockdiag.Socket)) error { <-listed; return nil }
		looked := make(chan error)
		go func() {
			_, err := w.Look([]Place{{At: netip.MustParseAddrPort("127.0.0.1:80")}})
			looked <- err
		}()
		synctest.Wait() // it looks
		if pause, quiet := w.Learnt(); pause != 0 || quiet != cautiousQuiet {
			t.Errorf("%s, %s", pause, quiet)
		}
		close(listed)
		if err := <-looked; err != nil {
			t.Error(err)
		}
	})
}
