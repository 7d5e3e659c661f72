package master

import (
	"github.com/masterd/masterd/pkg/master/config"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/masterd/masterd/pkg/master/state"
)

// A connection that finds no place holds up an upgrade for leaveWait, not until
// something else happens.
func TestUpgradeWaitsForConnectionsOnlySoLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		m := w.master(testConfig())
		w.is("v1", behaviour{crowded: true})
		ended := make(chan int)
		go func() { ended <- m.Run(t.Context()) }()
		until(t, "v1 serves", serves(w, "v1"))
		client, err := os.CreateTemp(t.TempDir(), "")
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		m.ask(func() {
			m.orphans = append(m.orphans, orphan{config.Listener{Name: "http"}, int(client.Fd()), time.Now()})
		})
		begun := time.Now()
		if err := m.leaveFor(&state.LiveUpgrade{By: "alice", Program: "/bin/masterd"}); err != nil {
			t.Fatal(err)
		}
		if code := <-ended; code != Replaced {
			t.Errorf("it ended with %d", code)
		}
		if took := time.Since(begun); took != leaveWait {
			t.Errorf("it went after %s", took)
		}
		w.crash("v1")
	})
}
