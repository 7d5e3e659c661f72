package systemd

import (
	"strings"
	"testing"
)

// What trying again would not mend is not tried again: the unit fails, with
// the reason in the journal.
func TestHopelessStartIsNotRepeated(t *testing.T) {
	t.Parallel()
	u := newUnit(t)
	fails := func(words ...string) {
		t.Helper()
		if out, code := u.run("systemctl", "start", u.name); code == 0 {
			t.Errorf("systemctl start succeeded:\n%s", out)
		}
		// systemd decides with the end of the process: "auto-restart" would be
		// the other state.
		u.wants("ActiveState=failed", "SubState=failed", "Result=exit-code", "ExecMainStatus=2", "NRestarts=0")
		u.journal(words...)
		if left := u.here(); len(left) > 0 {
			t.Errorf("left in the control group: %+v", left)
		}
	}

	taken, err := u.listen("tcp", "127.0.0.1:8080")
	if err != nil {
		t.Fatal(err)
	}
	fails("127.0.0.1:8080", "in use")
	if err := taken.Close(); err != nil {
		t.Fatal(err)
	}

	u.write(u.file, "service: demo\nlisteners: 12\n")
	fails("masterd.yaml:2")

	u.configure()
	u.must("systemctl", "reset-failed", u.name)
	u.start()
}

// A configuration that was broken while the service ran does not keep it from
// starting: the last good one runs, and says so.
func TestBrokenFileStartsTheLastGoodOne(t *testing.T) {
	t.Parallel()
	u := newUnit(t)
	u.start()
	u.baked()
	u.write(u.file, "service: demo\nlisteners: 12\n")
	u.must("systemctl", "restart", u.name)
	if got := u.version(); got != "v1" {
		t.Errorf("after systemctl restart answers %s", got)
	}
	u.says("serving", "degraded", "masterd.yaml")
	u.journal("degraded")
	out, code := u.run("masterd", "status")
	if code != 1 || !strings.Contains(out, "degraded") || !strings.Contains(out, "masterd.yaml:2") {
		t.Errorf("masterd status: exit code %d, want 1\n%s", code, out)
	}
	u.configure()
	u.must("systemctl", "reload", u.name)
	u.eventually("the end of the degradation", func() (bool, string) {
		line := u.show("StatusText")
		return !strings.Contains(line, "degraded"), line
	})
}

// A program that does not start must not keep the machine from booting, nor
// the unit from being mended by a reload.
func TestBadProgramDoesNotHoldUpTheBoot(t *testing.T) {
	t.Parallel()
	u := newUnit(t)
	u.env["DEMO_EXIT"] = "7"
	u.configure()
	u.must("systemctl", "start", u.name)
	u.says("exit")
	u.env = map[string]string{}
	u.configure()
	u.must("systemctl", "reload", u.name)
	u.serves("v1")
	u.becomes("ActiveState", "active")
	u.wants("NRestarts=0")
}
