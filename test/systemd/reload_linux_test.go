package systemd

import (
	"strings"
	"testing"
	"time"
)

// systemctl reload brings in a new version without a failed request, and
// returns when it serves.
func TestReloadRollsOver(t *testing.T) {
	t.Parallel()
	u := newUnit(t)
	u.start()
	u.baked()
	master, _ := u.master()
	u.env["DEMO_START_DELAY"] = "3s" // so that it is seen on the way
	u.configure()
	u.install("demo-v2", "demo")
	var out string
	var code int
	states := map[string]bool{}
	sum := u.underLoad(func() {
		done := beside(func() { out, code = u.run("systemctl", "reload", u.name) })
		during(done, func() { states[u.show("ActiveState")] = true })
		if code != 0 {
			t.Fatalf("systemctl reload: exit code %d\n%s", code, out)
		}
		if got := u.version(); got != "v2" {
			t.Errorf("after systemctl reload answers %s", got)
		}
		u.baked()
	})
	if !states["reloading"] || sum.Versions["v1"].Count == 0 || sum.Versions["v2"].Count == 0 {
		t.Errorf("states %v, versions %v", states, sum.Versions)
	}
	t.Logf("%d requests, %v; states on the way %v", sum.Requests, sum.Versions, states)
	u.becomes("ActiveState", "active")
	u.says("serving", "generation 2")
	if now, _ := u.master(); now != master {
		t.Errorf("the master was %+v and is %+v", master, now)
	}
	if out := u.must("masterd", "history"); !strings.Contains(out, "systemctl reload") {
		t.Errorf("the history does not say where the reload came from:\n%s", out)
	}
}

// A reload that cannot succeed makes systemctl reload fail; the reason is where
// one looks next, and the service goes on.
func TestRefusedReloadSaysWhy(t *testing.T) {
	t.Parallel()
	u := newUnit(t)
	u.start()
	u.baked()
	master, _ := u.master()
	u.install("demo-v2", "demo")
	u.underLoad(func() {
		refused := func(words ...string) {
			t.Helper()
			if out, code := u.run("systemctl", "reload", u.name); code == 0 {
				t.Errorf("systemctl reload succeeded:\n%s", out)
			}
			u.becomes("ActiveState", "active")
			u.says(words...)
			u.journal(words...)
			if got := u.version(); got != "v1" {
				t.Errorf("answers %s", got)
			}
		}
		u.env["DEMO_EXIT"] = "7"
		u.env["DEMO_EXIT_MESSAGE"] = "the database has moved to Mars"
		u.configure()
		refused("serving", "exit")
		u.journal("the database has moved to Mars")

		u.write(u.file, "service: demo\n  listeners: [\n")
		refused("serving", "masterd.yaml:2")

		// What was wrong is not said any more once it is right.
		u.env = map[string]string{}
		u.configure()
		u.must("systemctl", "reload", u.name)
		u.serves("v2")
		u.baked()
		u.eventually("a clean status line", func() (bool, string) {
			line := u.show("StatusText")
			return !strings.Contains(line, "fail") && !strings.Contains(line, "refused") && !strings.Contains(line, "masterd.yaml"), line
		})
	})
	u.wants("ActiveState=active", "NRestarts=0")
	if now, _ := u.master(); now != master {
		t.Errorf("the master was %+v and is %+v", master, now)
	}
}

// Starts and reloads that take longer than TimeoutStartSec are not killed: the
// master asks for time as long as its own deadlines allow.
func TestSlowVersionIsWaitedFor(t *testing.T) {
	t.Parallel()
	u := newUnit(t)
	// Long enough for "masterd reload" to reach a master that asks for more.
	u.dropIn("TimeoutStartSec=6")
	u.env["DEMO_START_DELAY"] = "8s"
	u.configure()
	u.start()
	u.install("demo-v2", "demo")
	began := time.Now()
	u.must("systemctl", "reload", u.name)
	if took := time.Since(began); took < 8*time.Second {
		t.Errorf("systemctl reload returned after %s, before v2 can have been ready", took)
	}
	if got := u.version(); got != "v2" {
		t.Errorf("after systemctl reload answers %s", got)
	}
	u.wants("Result=success", "NRestarts=0")
}

// HUP by hand is a reload like any other: systemd sees it begin and end, and
// its failure is on the status line.
func TestHangupIsAReload(t *testing.T) {
	t.Parallel()
	u := newUnit(t)
	u.start()
	u.baked()
	u.install("demo-v2", "demo")
	u.must("systemctl", "kill", "--kill-whom=main", "--signal=HUP", u.name)
	u.serves("v2")
	u.becomes("ActiveState", "active")
	u.write(u.file, "service: [\n")
	u.must("systemctl", "kill", "--kill-whom=main", "--signal=HUP", u.name)
	u.says("reload refused", "masterd.yaml")
	u.wants("ActiveState=active")
}
