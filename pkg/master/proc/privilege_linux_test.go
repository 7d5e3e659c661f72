package proc

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/master/process"
)

const bindLow = unix.CAP_NET_BIND_SERVICE

// handOn gives this thread a capability to hand on. It is never used again.
func handOn(t *testing.T) {
	t.Helper()
	needRoot(t)
	runtime.LockOSThread()
	h, caps := capHeader(), [2]unix.CapUserData{}
	if err := unix.Capget(&h, &caps[0]); err != nil {
		t.Fatal(err)
	}
	caps[0].Inheritable |= 1 << bindLow
	if err := unix.Capset(&h, &caps[0]); err != nil {
		t.Fatal(err)
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, bindLow, 0, 0); err != nil {
		t.Fatal(err)
	}
}

// What a program can have at most is what its order says, and nothing is inherited: as
// root, as another user, and with and without the ban on new privileges.
func TestPrivileges(t *testing.T) {
	handOn(t)
	const none = "0000000000000000"
	for _, c := range []struct {
		user     string
		bounding uint64
		noNew    bool
		has, can string
	}{
		{"", 1<<bindLow | 1<<unix.CAP_CHOWN, false, "0000000000000401", "0000000000000401"},
		{"", 0, true, none, none},
		{"65534", 0, true, none, none},
		{"65534", 1 << unix.CAP_SETUID, false, none, "0000000000000080"},
	} {
		got := report(t, Spec{
			Program: "/proc/self/exe", Args: []string{"exe", "as-worker", "report"}, User: c.user, Group: c.user, Bounding: c.bounding, NoNewPrivileges: c.noNew,
		}).Status
		want := fmt.Sprint(none, " ", c.has, " ", c.has, " ", c.can, " ", none, " ", map[bool]int{true: 1}[c.noNew])
		if is := strings.Join([]string{got["CapInh"], got["CapPrm"], got["CapEff"], got["CapBnd"], got["CapAmb"], got["NoNewPrivs"]}, " "); is != want {
			t.Errorf("%+v: %s, want %s", c, is, want)
		}
	}
}

// An operator's program gets nothing that is to be handed on, nor the protection from
// the kernel when memory runs out; the thread that starts it keeps both.
func TestOperatorsProgramsGetNoPrivileges(t *testing.T) {
	handOn(t)
	const oom = "/proc/self/oom_score_adj"
	was, err := os.ReadFile(oom)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(oom, []byte("-300"), 0); err != nil {
		t.Log("without protection: ", err) // takes CAP_SYS_RESOURCE
	}
	defer os.WriteFile(oom, was, 0)
	for range 2 { // the second one goes by the first one's thread
		var out strings.Builder
		in, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("/bin/sh", "-c", "read go; cat /proc/self/oom_score_adj /proc/self/status")
		cmd.Stdin, cmd.Stdout = in, &out
		if err := StartCommand(cmd); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(w)
		w.Close()
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Fatal(err)
		}
		got := out.String()
		if strings.HasPrefix(got, "-") || !strings.Contains(got, "CapInh:\t0000000000000000") || !strings.Contains(got, "CapAmb:\t0000000000000000") {
			t.Errorf("%s", got)
		}
	}
	if set, err := unix.PrctlRetInt(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_IS_SET, bindLow, 0, 0); err != nil || set != 1 {
		t.Errorf("the thread has lost what it had: %d, %v", set, err)
	}
}

// Limits are the ones that were asked for; who has too many processes is told which key
// it is.
func TestLimitsOfProcessesAndCores(t *testing.T) {
	needRoot(t)
	user, none := strconv.Itoa(1_000_000+rand.IntN(1_000_000_000)), int64(0) // nobody else's
	text := run(t, Spec{Program: "/bin/cat", Args: []string{"cat", "/proc/self/limits"}, User: user, Group: user, Limits: Limits{Processes: 40, Core: &none}})
	for _, want := range []string{"Max processes             40                   40", "Max core file size        0                    0"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	// It ends when it can start no more of them, and they stay.
	bomb := Spec{Program: "/bin/sh", Args: []string{"sh", "-c", "while sleep 1000 & do :; done"}, Env: []string{"PATH=/bin:/usr/bin"}, User: user, Group: user, Limits: Limits{Processes: 40}}
	p := mustStart(t, bomb)
	p.Spare(true)
	t.Cleanup(func() { unix.Kill(-p.PID(), unix.SIGKILL) })
	if e := ended(t, p); e.Code == 0 {
		t.Fatal(e)
	}
	if n := len(process.Group(p.PID())); n < 30 || n > 40 {
		t.Errorf("%d processes are there", n)
	}
	// Who has more already, where there was no limit, gets no further one.
	crowd := bomb
	crowd.Args, crowd.Processes = []string{"sh", "-c", "for i in 1 2 3 4 5 6 7 8 9 10; do sleep 1000 & done"}, 0
	for range 2 {
		c := mustStart(t, crowd)
		c.Spare(true)
		t.Cleanup(func() { unix.Kill(-c.PID(), unix.SIGKILL) })
		if e := ended(t, c); e.Code != 0 {
			t.Fatal(e)
		}
	}
	if p, err := Start(bomb); err == nil {
		p.Signal(unix.SIGKILL)
		<-p.Done()
		p.Close()
		t.Error("there is one more")
	} else if !strings.Contains(err.Error(), "worker.limits.processes") {
		t.Error(err)
	}
}

// A program with a file capability that it cannot get is refused, and it is said which
// key that is.
func TestFileCapabilitiesThatCannotBeHad(t *testing.T) {
	needRoot(t)
	program := publicDir(t) + "/true"
	text, err := os.ReadFile("/bin/true")
	if err != nil {
		t.Fatal(err)
	}
	write(t, program, string(text), 0o755)
	// struct vfs_cap_data of the kernel, revision 2: effective, and what is permitted.
	data := [5]uint32{0x02000001, 1 << bindLow}
	raw := make([]byte, 0, 20)
	for _, n := range data {
		raw = binary.LittleEndian.AppendUint32(raw, n)
	}
	if err := unix.Setxattr(program, "security.capability", raw, 0); err != nil {
		t.Skip("no file capabilities here: ", err)
	}
	s := Spec{Program: program, User: "65534", Group: "65534", NoNewPrivileges: true}
	if p, err := Start(s); err == nil {
		p.Close()
		t.Error("it runs")
	} else if !strings.Contains(err.Error(), "worker.no_new_privileges") {
		t.Error(err)
	}
	s.NoNewPrivileges, s.Bounding = false, 1<<bindLow
	if e := ended(t, mustStart(t, s)); e.Code != 0 {
		t.Error(e)
	}
}

// In a unit with SystemCallFilter=~@privileged the master may not set capabilities. Where
// there is nothing to take away it need not.
func TestNothingIsInheritedWhereCapsetIsForbidden(t *testing.T) {
	runtime.LockOSThread() // never used again
	raw, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: dataNumber, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.SYS_CAPSET, SkipFalse: 1},
		bpf.RetConstant{Val: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)},
		bpf.RetConstant{Val: unix.SECCOMP_RET_ALLOW},
	})
	if err != nil {
		t.Fatal(err)
	}
	var code []unix.SockFilter
	for _, r := range raw {
		code = append(code, unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K})
	}
	h, caps := capHeader(), [2]unix.CapUserData{}
	if err := unix.Capget(&h, &caps[0]); err != nil {
		t.Fatal(err)
	}
	caps[0].Inheritable, caps[1].Inheritable = 0, 0
	if err := unix.Capset(&h, &caps[0]); err != nil {
		t.Fatal(err)
	}
	p := unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	if err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&p)), 0, 0); err != nil {
		t.Skip(err)
	}
	if err := unix.Capset(&h, &caps[0]); err != unix.EPERM {
		t.Fatalf("capset is not forbidden: %v", err)
	}
	if err := confine(0); err != nil {
		t.Error(err)
	}
}
