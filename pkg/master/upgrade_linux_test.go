package master

import (
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/masterd/masterd/pkg/ipc/fdpass"
	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/state"
	"github.com/masterd/masterd/pkg/master/takeover"
)

// A connection that finds no place holds up an upgrade for takeover.LeaveWait, not until
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
		fd, err := fdpass.DuplicateOf(client)
		if err != nil {
			t.Fatal(err)
		}
		m.traffic.TakeUnaccepted(config.Listener{Name: "http"}, fd)
		begun := time.Now()
		if err := m.takeover.LeaveFor(&state.LiveUpgrade{By: "alice", Program: "/bin/masterd"}); err != nil {
			t.Fatal(err)
		}
		if code := <-ended; code != Replaced {
			t.Errorf("it ended with %d", code)
		}
		// the loop is woken every 5 ms to place it
		if took := time.Since(begun); took < takeover.LeaveWait || took > takeover.LeaveWait+10*time.Millisecond {
			t.Errorf("it went after %s", took)
		}
		w.crash("v1")
	})
}
