package systemd

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The unit's main process becomes another masterd, and systemd does not notice:
// the same process, which still feeds the watchdog, reloads and stops.
func TestUpgradeUnderSystemd(t *testing.T) {
	t.Parallel()
	u := newUnit(t)
	u.dropIn("WatchdogSec=10") // a pulse every five seconds
	u.start()
	u.baked()
	u.install("masterd", "masterd-next")
	before, workers := u.master()
	u.underLoad(func() {
		for range 3 {
			began := time.Now()
			u.must("masterd", "upgrade", "--binary", "/usr/local/bin/masterd-next")
			t.Logf("upgraded, and settled, in %s", time.Since(began).Round(time.Millisecond))
		}
		after, now := u.master()
		if after.pid != before.pid || fmt.Sprint(now) != fmt.Sprint(workers) {
			t.Errorf("the master was %+v with %+v and is %+v with %+v", before, workers, after, now)
		}
		u.fed(2)
		u.install("demo-v2", "demo")
		u.must("systemctl", "reload", u.name)
		u.serves("v2")
	})
	u.wants("ActiveState=active", "SubState=running", "NRestarts=0", "MainPID="+strconv.Itoa(before.inBox))
	u.must("systemctl", "stop", u.name)
	u.wants("ActiveState=inactive", "Result=success")
	if left := u.here(); len(left) > 0 {
		t.Errorf("left in the control group: %+v", left)
	}
}

// fed waits until the watchdog was told of life so many times more.
func (u *unit) fed(times int) {
	u.t.Helper()
	last := u.show("WatchdogTimestampMonotonic")
	for range times {
		u.eventually("the watchdog to be fed", func() (bool, string) {
			now := u.show("WatchdogTimestampMonotonic")
			if now == last {
				return false, now
			}
			last = now
			return true, ""
		})
	}
}

// A new masterd that has proved itself, and then dies or hangs, is replaced by the
// old one, which the keeper starts; and that one makes way for the process that
// systemd starts for the same reason.
func TestUpgradeThatDiesUnderSystemd(t *testing.T) {
	t.Parallel()
	u := newUnit(t)
	u.start()
	u.baked()
	for n, then := range []string{"sleep 1; exit 1", "exec sleep 60"} {
		bad := fmt.Sprintf("/usr/local/bin/masterd-bad-%d", n)
		u.write(bad, "#!/bin/sh\n[ \"$1\" = prove ] && exec /usr/local/bin/masterd \"$@\"\n"+then+"\n")
		u.must("chmod", "755", bad)
		before, workers := u.master()
		u.underLoad(func() {
			out, code := u.run("masterd", "upgrade", "--binary", bad)
			if code == 0 {
				t.Errorf("it was taken: %s", out)
			}
			t.Logf("exit %d: %s", code, out)
			u.eventually("the unit to have the master that serves", func() (bool, string) {
				st, err := u.status()
				if err != nil {
					return false, err.Error()
				}
				main, state := u.show("MainPID"), u.show("ActiveState")
				return st.Master.PID != before.inBox && main == strconv.Itoa(st.Master.PID) && state == "active" && st.Master.Restored == bad,
					fmt.Sprintf("MainPID %s, %s, status %+v", main, state, st.Master)
			})
			if _, now := u.master(); fmt.Sprint(now) != fmt.Sprint(workers) {
				t.Errorf("workers %+v before and %+v after", workers, now)
			}
			u.must("systemctl", "reload", u.name)
			u.baked()
		})
	}
	if out := u.must("masterd", "status"); !strings.Contains(out, "is back") {
		t.Errorf("masterd status:\n%s", out)
	}
	u.must("systemctl", "stop", u.name)
	u.wants("ActiveState=inactive", "Result=success")
	if left := u.here(); len(left) > 0 {
		t.Errorf("left in the control group: %+v", left)
	}
}
