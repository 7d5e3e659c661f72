package e2e

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/masterd/masterd/test/service"
)

// statusOf reads what the kernel says of a process in the form of /proc/PID/status.
func statusOf(text string) map[string]string {
	all := map[string]string{}
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		all[key] = strings.TrimSpace(value)
	}
	return all
}

// capabilitySets are those by which a process, or what it runs, may do what root may.
var capabilitySets = []string{"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"}

const noCapability = "0000000000000000"

// privileges asks a hostile worker what it has got, and what it could take.
func privileges(t *testing.T, s *service.Service) (status map[string]string, stolen string) {
	t.Helper()
	_, text, err := ask(s.Addr, "/status", 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	_, stolen, err = ask(s.Addr, "/steal", 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	return statusOf(text), stolen
}

// A worker with a user of its own has no capability, can get none, and can become nobody
// else by a setuid program, whatever kind it is of.
func TestWorkersOfAnotherUserHaveNoPrivileges(t *testing.T) {
	besideOthers(t)
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	for _, kind := range []string{"unmodified", "socket-activation"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := unprepared(t)
			s.Config.Set("worker.kind", kind).Set("worker.user", "nobody").Set("worker.command", []string{programs.Hostile, "serves", s.Addr})
			if err := s.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			st, stolen := privileges(t, s)
			for _, set := range capabilitySets {
				if st[set] != noCapability {
					t.Errorf("%s is %s", set, st[set])
				}
			}
			if st["NoNewPrivs"] != "1" {
				t.Error("it may get new privileges")
			}
			if !strings.Contains(stolen, "operation not permitted") {
				t.Errorf("a descriptor of its parent's: %s", stolen)
			}
		})
	}
}

// One that runs as root has what programs that start as root need, and cannot reach into
// the master, which has more. It may be allowed more, also all.
func TestWorkersOfRootCannotReachTheMaster(t *testing.T) {
	besideOthers(t)
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	if st, _ := os.ReadFile("/proc/self/status"); len(strings.Trim(statusOf(string(st))["CapBnd"], "0")) < 8 {
		t.Skip("root has few capabilities here itself")
	}
	for more, reached := range map[string]bool{"": false, "CAP_NET_ADMIN": false, "ALL": true} {
		t.Run(more, func(t *testing.T) {
			t.Parallel()
			s := unprepared(t)
			s.Config.Set("worker.kind", "socket-activation").Set("worker.command", []string{programs.Hostile, "serves", s.Addr})
			if more != "" {
				s.Config.Set("worker.capabilities", []string{more})
			}
			if err := s.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			st, stolen := privileges(t, s)
			if strings.HasPrefix(stolen, "taken") != reached {
				t.Errorf("a descriptor of its parent's: %s; it has %s", stolen, st["CapPrm"])
			}
			if st["CapInh"] != noCapability || st["CapAmb"] != noCapability || st["CapPrm"] != st["CapBnd"] {
				t.Errorf("%v", st)
			}
			if admin := hasCapability(t, st["CapPrm"], 12); admin != (more != "") {
				t.Errorf("CAP_NET_ADMIN: %v", admin)
			}
			if !hasCapability(t, st["CapPrm"], 0) || !hasCapability(t, st["CapPrm"], 7) {
				t.Error("it may neither CHOWN nor SETUID")
			}
		})
	}
}

func hasCapability(t *testing.T, set string, n int) bool {
	t.Helper()
	var bits uint64
	if _, err := fmt.Sscanf(set, "%x", &bits); err != nil {
		t.Fatal(err)
	}
	return bits&(1<<n) != 0
}

// What an unprivileged master was given to hand on (AmbientCapabilities= of its unit)
// goes to nobody that it starts: no worker, hook, check or drain command.
func TestAmbientCapabilitiesStayWithTheMaster(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to give it some")
	}
	t.Parallel()
	s := unprepared(t)
	dir := filepath.Join(s.Dir, "found")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	note := func(name string) []string {
		return []string{"/bin/cp", "-f", "/proc/self/status", filepath.Join(dir, name)}
	}
	s.Config.Set("worker.kind", "socket-activation").Set("worker.command", []string{programs.Hostile, "serves", s.Addr}).
		Set("health", map[string]any{"command": note("check")}).Set("drain.command", note("drain")).
		Set("rollout.require.commands", []any{note("require")}).Set("rollout.hooks.before", []any{note("before")}).Set("rollout.hooks.after", []any{note("after")}).Set("stop_timeout", "2s")
	const caps = "+net_bind_service,+kill"
	s.Argv = []string{"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=" + caps, "--ambient-caps=" + caps, s.Masterd, "run", "--config", s.File}
	if err := filepath.WalkDir(s.Dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Chown(path, 65534, 65534)
	}); err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if st, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.PID())); err != nil || statusOf(string(st))["CapAmb"] == noCapability {
		t.Fatalf("the master was given nothing: %s, %v", st, err)
	}
	baked(t, s)
	next(t, s, 2, "baked")
	st, _ := privileges(t, s)
	found := map[string]map[string]string{"worker": st}
	for _, name := range []string{"check", "drain", "require", "before", "after"} {
		eventually(t, name+" to run", func() bool {
			text, _ := os.ReadFile(filepath.Join(dir, name))
			found[name] = statusOf(string(text))
			return found[name]["CapBnd"] != ""
		})
	}
	for who, st := range found {
		for _, set := range []string{"CapInh", "CapPrm", "CapEff", "CapAmb"} {
			if st[set] != noCapability {
				t.Errorf("%s has %s %s", who, set, st[set])
			}
		}
	}
	// The master has kept them, for itself and for the one after it.
	cli(t, s, 0, "upgrade")
	eventually(t, "the next master to have them", func() bool {
		st, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.PID()))
		return statusOf(string(st))["CapAmb"] == "0000000000000420"
	})
}

// worker.capabilities can give no more than the master's unit or container has: that is
// said, and the worker serves without.
func TestCapabilitiesThatTheMasterHasNotGot(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to take some away")
	}
	t.Parallel()
	s := unprepared(t)
	s.Config.Set("worker.kind", "socket-activation").Set("worker.command", []string{programs.Hostile, "serves", s.Addr}).
		Set("worker.capabilities", []string{"CAP_NET_ADMIN", "CAP_NET_RAW"})
	s.Argv = []string{"setpriv", "--bounding-set=-net_admin", s.Masterd, "run", "--config", s.File}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	st, _ := privileges(t, s)
	if set, err := strconv.ParseUint(st["CapBnd"], 16, 64); err != nil || set&(1<<13) == 0 || set&(1<<12) != 0 {
		t.Errorf("the worker can have %s, %v", st["CapBnd"], err)
	}
	logged(t, s, "add CapabilityBoundingSet=CAP_NET_ADMIN below [Service]")
}
