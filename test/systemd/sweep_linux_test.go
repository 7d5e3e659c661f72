package systemd

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// leftover puts a process into the unit that no master knows of, as a worker's
// child that made itself a daemon; deaf: it does not end by TERM.
func leftover(deaf bool) string {
	trap := ""
	if deaf {
		trap = `trap "" TERM; `
	}
	return fmt.Sprintf(`ExecStartPost=/bin/sh -c '%ssetsid sleep 10000 </dev/null >/dev/null 2>&1 &'`, trap)
}

// nobody waits until the unit has no process.
func (u *unit) nobody() {
	u.t.Helper()
	u.eventually("the last process to go", func() (bool, string) {
		left := u.here()
		return len(left) == 0, fmt.Sprintf("%+v", left)
	})
}

// A stop leaves nobody: not who is deaf, not who has left his parents.
func TestStopLeavesNobody(t *testing.T) {
	t.Parallel()
	for _, deaf := range []bool{false, true} {
		t.Run(fmt.Sprintf("deaf=%v", deaf), func(t *testing.T) {
			t.Parallel()
			u := newUnit(t)
			u.dropIn(leftover(deaf))
			u.start()
			if n := len(u.here()); n < 3 {
				t.Fatalf("%d processes, want master, worker and the one that was left", n)
			}
			u.must("systemctl", "stop", u.name)
			if left := u.here(); len(left) > 0 {
				t.Errorf("left in the control group: %+v", left)
			}
			u.wants("ActiveState=inactive", "Result=success")
			u.journal("swept /system.slice/masterd.service")
		})
	}
}

// masterd stop is as final as systemctl stop.
func TestMasterdStopIsFinal(t *testing.T) {
	t.Parallel()
	u := newUnit(t)
	u.dropIn(leftover(false))
	u.start()
	u.must("masterd", "stop")
	u.becomes("ActiveState", "inactive")
	u.wants("Result=success", "NRestarts=0")
	u.nobody()
}

// The workers of a master that was killed serve on; a stop before the next
// master has come ends them too, although systemd then runs nothing of the unit.
func TestStopBetweenTwoMasters(t *testing.T) {
	t.Parallel()
	u := newUnit(t)
	u.dropIn(leftover(false), "RestartSec=1h")
	u.start()
	u.baked()
	var slow answer
	asked := beside(func() { slow = u.get("/slow?d=5s") })
	u.inFlight(1)
	master, _ := u.master()
	before := slices.DeleteFunc(u.here(), func(p process) bool { return p == master })
	master.signal(t, syscall.SIGKILL)
	u.becomes("SubState", "auto-restart")
	u.journal("workers and keeper are left alone")
	if got := u.version(); got != "v1" {
		t.Errorf("without a master answers: %s", got)
	}
	after := u.here()
	if fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("workers were %+v and are %+v", before, after)
	}
	// Their directory for temporary files is the one they know.
	for _, w := range before {
		if w.name != "demo" {
			continue
		}
		if err := os.WriteFile(fmt.Sprintf("/proc/%d/root/tmp/spooled", w.pid), []byte("x"), 0o600); err != nil {
			t.Errorf("a worker cannot write temporary files any more: %v", err)
		}
	}
	u.must("systemctl", "stop", u.name)
	u.becomes("ActiveState", "inactive")
	u.nobody()
	<-asked
	if slow.err != nil || slow.body != "waited 5s" {
		t.Errorf("the request that ran when the stop came: %+v: %v", slow, slow.err)
	}
}

// Ten quick deaths of the master are ten new masters, and no request notices.
func TestTenQuickKills(t *testing.T) {
	t.Parallel()
	u := newUnit(t)
	u.start()
	u.baked()
	_, before := u.master()
	u.underLoad(func() {
		for n := range 10 {
			master, _ := u.master()
			master.signal(t, syscall.SIGKILL)
			u.becomes("NRestarts", fmt.Sprint(n+1))
			u.becomes("ActiveState", "active")
		}
	})
	if _, after := u.master(); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("workers and keeper were %+v and are %+v", before, after)
	}
	u.must("systemctl", "stop", u.name)
	u.nobody()
}

// A master that dies while it drains for a stop leaves workers that nobody will
// take over.
func TestMasterDiesWhileItStops(t *testing.T) {
	t.Parallel()
	u := newUnit(t)
	u.dropIn(leftover(false))
	u.start()
	u.baked()
	asked := beside(func() { u.get("/slow?d=30s") })
	u.inFlight(1)
	u.must("systemctl", "stop", "--no-block", u.name)
	u.becomes("ActiveState", "deactivating")
	master, _ := u.master()
	master.signal(t, syscall.SIGKILL)
	u.becomes("ActiveState", "failed")
	u.nobody()
	<-asked
}

// The sweep asks nobody who belongs to a unit that is up, or comes up.
func TestSweepLeavesTheLiving(t *testing.T) {
	t.Parallel()
	u := newUnit(t)
	u.dropIn(leftover(false))
	u.start()
	before := u.here()
	u.must("systemctl", "start", "masterd-sweep@masterd.service")
	u.must("masterd", "sweep", "--unit", "masterd.service")
	same := func(a, b process) bool { return a.pid == b.pid } // what it runs may just be changing
	if after := u.here(); !slices.EqualFunc(after, before, same) {
		t.Errorf("processes were %+v and are %+v", before, after)
	}
	if out, code := u.run("masterd", "sweep"); code != 2 || !strings.Contains(out, "ExecStopPost") {
		t.Errorf("masterd sweep: exit code %d\n%s", code, out)
	}
	u.must("systemctl", "restart", u.name)
	u.serves("v1")
	u.becomes("ActiveState", "active")
}

// The strict set is one that the SDK's workers can live with, under a user of
// their own.
func TestStrictSet(t *testing.T) {
	t.Parallel()
	u := newUnit(t)
	strict, err := os.ReadFile("../../deploy/systemd/strict.conf")
	if err != nil {
		t.Fatal(err)
	}
	u.write("/etc/systemd/system/masterd.service.d/strict.conf", string(strict))
	u.must("systemctl", "daemon-reload")
	u.user = "nobody"
	u.configure()
	u.start()
	u.baked()
	u.install("demo-v2", "demo")
	u.must("systemctl", "reload", u.name)
	u.serves("v2")
	u.baked()
	before, workers := u.master()
	before.signal(t, syscall.SIGKILL)
	u.becomes("NRestarts", "1")
	u.becomes("ActiveState", "active")
	if after, now := u.master(); after.pid == before.pid || fmt.Sprint(now) != fmt.Sprint(workers) {
		t.Errorf("after a kill: master %+v, then %+v; workers %+v, then %+v", before, after, workers, now)
	}
	u.must("masterd", "upgrade")
	u.serves("v2")
	u.must("systemctl", "stop", u.name)
	u.wants("ActiveState=inactive", "Result=success")
	u.nobody()
}

// Credentials reach workers: as files those of the master's own user, and by an
// environment file of the master's reading all.
func TestCredentialsReachWorkers(t *testing.T) {
	t.Parallel()
	for _, user := range []string{"", "nobody"} {
		t.Run("user="+user, func(t *testing.T) {
			t.Parallel()
			u := newUnit(t)
			u.write("/etc/secret.env", "DEMO_SECRET=guess\n")
			u.dropIn("LoadCredential=secret.env:/etc/secret.env")
			u.user, u.envFile = user, "/run/credentials/masterd.service/secret.env"
			u.configure()
			u.start()
			_, workers := u.master()
			env := ""
			for _, w := range workers {
				if w.name == "demo" {
					env = w.file(t, "environ")
				}
			}
			for _, want := range []string{"CREDENTIALS_DIRECTORY=/run/credentials/masterd.service\x00", "DEMO_SECRET=guess\x00"} {
				if !strings.Contains(env, want) {
					t.Errorf("the worker has no %q:\n%s", want, strings.ReplaceAll(env, "\x00", "\n"))
				}
			}
		})
	}
}
