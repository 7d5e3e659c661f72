// Package container tries masterd as the first process of a container: in PID
// and mount namespaces of its own, on a root that is read only.
package container

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/test/service"
)

const (
	// factTimeout is how long a fact may take to come true.
	factTimeout = 40 * time.Second
	// poll is how often a fact is looked for: each look is one at all processes.
	poll = 50 * time.Millisecond
)

// programsDir is where the programs are built, unless they are built already.
var programsDir string

// built are the programs, made once, by the first test that has a container for them.
var built = sync.OnceValues(func() (service.Programs, error) {
	return service.Build(context.Background(), programsDir)
})

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "masterd-container-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if err := os.Chmod(dir, 0o755); err != nil { // for other users
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	programsDir = dir
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// container is one that runs until the test ends.
type container struct {
	service.Programs
	t     *testing.T
	cmd   *exec.Cmd
	dir   string // what it may write to, on the host
	port  int
	log   *lockedBuffer
	ended chan struct{}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// start starts masterd as process 1. In the text DIR stands for the directory
// that can be written to, PORT for a free port and BIN for where programs are.
func start(t *testing.T, text string) *container {
	t.Helper()
	return startAs(t, 0, text)
}

// startAs starts it as a user that need not exist.
func startAs(t *testing.T, uid int, text string) *container {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root can make the namespaces of a container")
	}
	programs, err := built()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "mc") // short: sockets are in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := errors.Join(os.Chmod(dir, 0o755), os.Chown(dir, uid, uid)); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &container{Programs: programs, t: t, dir: dir, port: l.Addr().(*net.TCPAddr).Port, log: &lockedBuffer{}, ended: make(chan struct{})}
	l.Close()
	text = strings.NewReplacer("DIR", dir, "PORT", strconv.Itoa(c.port), "BIN", filepath.Dir(programs.Masterd)).Replace(text)
	config := filepath.Join(dir, "masterd.yaml")
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	script := `mount --bind "$1" "$1" && mount -o remount,bind,ro / && mount -t proc proc /proc && exec setpriv --reuid="$4" --regid="$4" --clear-groups "$2" run --config "$3"`
	c.cmd = exec.Command("/bin/sh", "-c", script, "sh", dir, programs.Masterd, config, strconv.Itoa(uid))
	c.cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	c.cmd.Stdout, c.cmd.Stderr = c.log, c.log
	c.cmd.WaitDelay = time.Second
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID, Unshareflags: unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // the death signal comes with the end of this thread
		defer runtime.UnlockOSThread()
		err := c.cmd.Start()
		started <- err
		if err == nil {
			_ = c.cmd.Wait() // how it ended is in its state
			close(c.ended)
		}
	}()
	if err := <-started; err != nil {
		t.Skip("no container can be made here: ", err)
	}
	t.Cleanup(func() {
		_ = c.cmd.Process.Kill()
		<-c.ended
		if t.Failed() {
			t.Log(c.log)
		}
	})
	return c
}

func (c *container) eventually(what string, ok func() bool) {
	c.t.Helper()
	late := time.Now().Add(factTimeout)
	for !ok() {
		if time.Now().After(late) {
			c.t.Fatalf("waiting for %s: not within %s\n%+v", what, factTimeout, c.processes())
		}
		time.Sleep(poll)
	}
}

// process is one of the container's, seen from here.
type process struct {
	pid    int
	parent int
	state  string
	name   string
}

// processes are those of the container.
func (c *container) processes() (list []process) {
	own, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", c.cmd.Process.Pid))
	if err != nil {
		return nil
	}
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		// Of one that is a zombie the namespace cannot be read; its parent tells.
		ns, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid))
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		i, j := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
		if err != nil || i < 0 || j < 0 {
			continue
		}
		f := strings.Fields(string(stat[j+1:]))
		parent, _ := strconv.Atoi(f[1])
		if ns == own || parent == c.cmd.Process.Pid {
			list = append(list, process{pid, parent, f[0], string(stat[i+1 : j])})
		}
	}
	return list
}

func (c *container) named(name string) (list []process) {
	for _, p := range c.processes() {
		if p.name == name {
			list = append(list, p)
		}
	}
	return list
}

// master is the first process's child of that name.
func (c *container) master() int {
	for _, p := range c.named("masterd") {
		if p.parent == c.cmd.Process.Pid {
			return p.pid
		}
	}
	return 0
}

// serves tells whether a worker answers.
func (c *container) serves() bool {
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d/ping", c.port))
	if err != nil {
		return false
	}
	defer r.Body.Close()
	_, _ = io.Copy(io.Discard, r.Body)
	return r.StatusCode == http.StatusOK && r.Header.Get("X-Worker-Version") != ""
}

func (c *container) signal(sig syscall.Signal) {
	c.t.Helper()
	if err := c.cmd.Process.Signal(sig); err != nil {
		c.t.Fatal(err)
	}
}

// code waits for the end and returns the exit code.
func (c *container) code() int {
	c.t.Helper()
	select {
	case <-c.ended:
	case <-time.After(factTimeout):
		c.t.Fatalf("it does not end: %+v", c.processes())
	}
	return c.cmd.ProcessState.ExitCode()
}

const web = `
service: web
runtime_dir: DIR/run
state_dir: DIR/state
listeners: [{name: http, address: "tcp://127.0.0.1:PORT"}]
worker: {command: [BIN/demo-worker]}
rollout: {bake: 200ms}
`

// On a read-only root, with a directory to write to: it serves, HUP reloads, TERM
// drains and ends all. Also as a user that the host does not know.
func TestServesReloadsAndStops(t *testing.T) {
	t.Parallel()
	for _, uid := range []int{0, 65532} {
		t.Run(strconv.Itoa(uid), func(t *testing.T) {
			t.Parallel()
			c := startAs(t, uid, web)
			c.eventually("it to serve", c.serves)
			first := c.named("demo-worker")
			c.signal(syscall.SIGHUP)
			c.eventually("another worker", func() bool {
				now := c.named("demo-worker")
				return len(now) > 0 && now[len(now)-1].pid != first[0].pid
			})
			c.eventually("it to serve", c.serves)
			c.eventually("the health check to pass", func() bool { return c.healthy() })
			rollup, _ := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", c.cmd.Process.Pid))
			for line := range strings.Lines(string(rollup)) {
				if strings.HasPrefix(line, "Pss:") || strings.HasPrefix(line, "Pss_Anon:") {
					t.Log("the first process: ", strings.TrimSpace(line))
				}
			}
			c.signal(syscall.SIGTERM)
			if code := c.code(); code != 0 {
				t.Errorf("exit code %d", code)
			}
		})
	}
}

// healthy is what the container's health check finds.
func (c *container) healthy() bool {
	cmd := exec.Command(c.Masterd, "status", "--config", filepath.Join(c.dir, "masterd.yaml"))
	return cmd.Run() == nil
}

// Whoever loses his parent is reaped, and the master still learns how its own
// workers end.
func TestReapsOrphans(t *testing.T) {
	t.Parallel()
	c := start(t, `
service: orphans
runtime_dir: DIR/run
state_dir: DIR/state
worker:
  kind: socket-activation
  command: [/bin/sh, -c, 'for i in 1 2 3 4 5 6 7 8; do (sleep 0.$i & ) ; done; touch DIR/run/made; sleep 1; exit 7']
health: none
rollout: {bake: 200ms}
restart: {initial: 1m, max: 1m}
`)
	c.eventually("the orphans to be made", func() bool {
		_, err := os.Stat(filepath.Join(c.dir, "run/made"))
		return err == nil
	})
	c.eventually("the worker's exit status to be told", func() bool {
		return strings.Contains(c.log.String(), "exit code 7") || strings.Contains(c.log.String(), "status 7")
	})
	// Each is a zombie for a moment, and none for longer.
	c.eventually("the orphans to be gone", func() bool {
		return !slices.ContainsFunc(c.processes(), func(p process) bool { return p.name == "sleep" || p.state == "Z" })
	})
	c.signal(syscall.SIGTERM)
	if code := c.code(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// The death of the master is not the container's, nor its worker's.
func TestKilledMasterComesBack(t *testing.T) {
	t.Parallel()
	c := start(t, strings.Replace(web, `listeners: [{name: http, address: "tcp://127.0.0.1:PORT"}]`, "", 1))
	// A first generation that does not serve yet would be started anew.
	c.eventually("a worker that serves", func() bool { return strings.Contains(c.log.String(), "the traffic has moved") })
	before, worker := c.master(), c.named("demo-worker")[0].pid
	if err := syscall.Kill(before, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	c.eventually("another master", func() bool { now := c.master(); return now != 0 && now != before })
	// It hears signals, and has not touched who was there.
	c.eventually("the other master to start", func() bool { return strings.Count(c.log.String(), "masterd starts") == 2 })
	if err := syscall.Kill(worker, 0); err != nil {
		t.Errorf("the worker: %v", err)
	}
	c.eventually("it to say so", func() bool { return strings.Contains(c.log.String(), "the master was killed (SIGKILL)") })
	c.signal(syscall.SIGTERM)
	if code := c.code(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if err := syscall.Kill(worker, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("the worker is still there: %v", err)
	}
}

// An upgrade that fails is not the container's end, however the new one dies: the
// keeper's is waited for, and is the master from then on.
func TestFailedUpgradeIsNotTheEnd(t *testing.T) {
	t.Parallel()
	for how, end := range map[string]string{"exits": "sleep 0.3; exit 1", "crashes": "sleep 0.3; kill -SEGV $$", "hangs": "exec sleep 60"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			c := start(t, web)
			c.eventually("it to serve", c.serves)
			worker := c.named("demo-worker")[0].pid
			bad := filepath.Join(c.dir, "bad")
			script := fmt.Sprintf("#!/bin/sh\n[ \"$1\" = prove ] && exec %s \"$@\"\n%s\n", c.Masterd, end)
			if err := os.WriteFile(bad, []byte(script), 0o755); err != nil {
				t.Fatal(err)
			}
			if out, code := c.cli("upgrade", "--binary", bad); code != 1 || !strings.Contains(out, "is back") {
				t.Errorf("the upgrade ended with %d: %s", code, out)
			}
			if !c.serves() || syscall.Kill(worker, 0) != nil {
				t.Error("it does not serve, or by another worker")
			}
			// It is the container's master: it is sent signals, and is started again.
			reloads := func() {
				t.Helper()
				was := c.named("demo-worker")[0].pid
				c.signal(syscall.SIGHUP)
				c.eventually("another worker alone", func() bool {
					now := c.named("demo-worker")
					return len(now) == 1 && now[0].pid != was
				})
			}
			reloads()
			before := c.master()
			if err := syscall.Kill(before, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			c.eventually("another master", func() bool { now := c.master(); return now != 0 && now != before && c.healthy() })
			reloads()
			if out, code := c.cli("upgrade"); code != 0 {
				t.Errorf("a good upgrade ended with %d: %s", code, out)
			}
			c.signal(syscall.SIGTERM)
			if code := c.code(); code != 0 {
				t.Errorf("exit code %d", code)
			}
		})
	}
}

// cli runs a verb against it, from outside.
func (c *container) cli(args ...string) (string, int) {
	cmd := exec.Command(c.Masterd, append(args, "--config", filepath.Join(c.dir, "masterd.yaml"))...)
	out, _ := cmd.CombinedOutput()
	return string(out), cmd.ProcessState.ExitCode()
}

// Without a place to write to it says what it needs.
func TestSaysWhatItNeeds(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"runtime_dir: DIR/run", "state_dir: DIR/state"} {
		what, _, _ := strings.Cut(key, ":")
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			c := start(t, strings.Replace(web, key, what+": /usr/share/nowhere-"+what, 1))
			if code := c.code(); code != 2 {
				t.Errorf("exit code %d", code)
			}
			if said := c.log.String(); !strings.Contains(said, "/usr/share/nowhere-"+what) || !strings.Contains(said, "read-only file system") {
				t.Errorf("it says: %s", said)
			}
		})
	}
}
