// Package service runs a real masterd with a real worker for tests, benches
// and the tour: in a temporary directory, on a free port, as whoever asks.
package service

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/contain"
)

const (
	// startTimeout is how long a master may take until it serves.
	startTimeout = 60 * time.Second
	// stopTimeout is how long it may take to end.
	stopTimeout = 60 * time.Second
	// poll is after how long a fact is looked for again, at first; each look after that
	// waits twice as long, up to pollMost: a look costs the master a millisecond.
	poll, pollMost = 25 * time.Millisecond, 100 * time.Millisecond
)

// Programs are what was built: paths of masterd, of the demo worker and
// the chat room, and of those that were never prepared.
type Programs struct{ Masterd, Demo, Chat, Plain, Answers, Gin, Hostile, Locks string }

// ProgramsEnv names a directory of programs that were built before: `make test` builds them
// once for all packages. Linking is what costs. It begins with no MASTERD_: each masterd
// would look for the key that was meant, whenever it reads its configuration.
const ProgramsEnv = "TEST_PROGRAMS"

// Build builds all programs into dir, unless they were built before, without what debuggers
// need: masters hash and copy what they run, and tests start many. The Makefile builds them
// in the same way.
func Build(ctx context.Context, dir string) (Programs, error) {
	if before := os.Getenv(ProgramsEnv); before != "" {
		p := Built(before)
		for _, path := range []string{p.Masterd, p.Demo, p.Chat, p.Plain, p.Answers, p.Gin, p.Hostile, p.Locks} {
			if _, err := os.Stat(path); err != nil {
				return Programs{}, fmt.Errorf("%s says where programs are: %w", ProgramsEnv, err)
			}
		}
		return p, nil
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-ldflags=-s -w", "-o", dir+"/",
		"github.com/masterd/masterd/cmd/masterd", "github.com/masterd/masterd/cmd/demo-worker", "github.com/masterd/masterd/test/programs/...")
	if out, err := cmd.CombinedOutput(); err != nil {
		return Programs{}, fmt.Errorf("building masterd and its workers: %w\n%s", err, out)
	}
	return Built(dir), nil
}

// Built are programs that were built before.
func Built(dir string) Programs {
	at := func(name string) string { return filepath.Join(dir, name) }
	return Programs{Masterd: at("masterd"), Demo: at("demo-worker"), Chat: at("chat"), Plain: at("plain"), Answers: at("answers"), Gin: at("gin"), Hostile: at("hostile"),
		Locks: at("locks")}
}

// Config is a configuration as YAML would have it; keys are those of the file.
type Config map[string]any

// Set sets a key given by its path, "rollout.bake".
func (c Config) Set(path string, value any) Config {
	at := map[string]any(c)
	keys := strings.Split(path, ".")
	for _, k := range keys[:len(keys)-1] {
		next, ok := at[k].(map[string]any)
		if !ok {
			next = map[string]any{}
			at[k] = next
		}
		at = next
	}
	at[keys[len(keys)-1]] = value
	return c
}

// Kind is the kind of the workers.
func (c Config) Kind() string {
	worker, _ := c["worker"].(map[string]any)
	if kind, ok := worker["kind"].(string); ok {
		return kind
	}
	return "sdk"
}

// Service is one running masterd.
type Service struct {
	Programs
	Dir    string
	File   string // its configuration
	Addr   string // HOST:PORT of the listener "http"
	Config Config
	From   string   // the directory that it is started in; empty: this one
	Argv   []string // how it is started; nil: absolute paths
	API    *api.Client
	cmd    *exec.Cmd
	log    *os.File
	ended  chan struct{}
	err    error
}

// New lays out a service in dir without starting it: the demo worker on a free
// port, with quick checks. Change Config, then Start.
func New(p Programs, dir string) (*Service, error) {
	addr, err := FreePort()
	if err != nil {
		return nil, err
	}
	s := &Service{Programs: p, Dir: dir, File: filepath.Join(dir, "masterd.yaml"), Addr: addr, Config: Config{}}
	s.Config.Set("service", "demo").
		Set("runtime_dir", filepath.Join(dir, "run")).
		Set("state_dir", filepath.Join(dir, "state")).
		Set("listeners", []any{map[string]any{"name": "http", "address": "tcp://" + addr}}).
		Set("worker.command", []string{p.Demo}).
		Set("health.http", map[string]any{"listener": "http", "path": "/healthz"}).
		Set("rollout.bake", "200ms").
		Set("log.format", "json")
	return s, nil
}

// reserved are the names by which this process has its ports for as long as it runs.
var reserved struct {
	sync.Mutex
	all []net.Listener
}

// FreePort finds an address nobody listens on, nor will: it is not given to another
// test that runs beside this process. It lies below the ports that the kernel gives to
// clients: one of those could be taken before it is used.
func FreePort() (string, error) {
	const first, last, tries = 15000, 28000, 100
	var err error
	for range tries {
		port := first + rand.IntN(last-first)
		var name, l net.Listener
		if name, err = net.Listen("unix", fmt.Sprintf("@masterd-test-port-%d", port)); err != nil {
			continue
		}
		addr := fmt.Sprintf("127.0.0.1:%d", port)
		if l, err = net.Listen("tcp", addr); err != nil {
			_ = name.Close()
			continue
		}
		reserved.Lock()
		reserved.all = append(reserved.all, name)
		reserved.Unlock()
		return addr, l.Close()
	}
	return "", err
}

// Write writes the configuration, whole or not at all.
func (s *Service) Write() error {
	b, err := yaml.Marshal(map[string]any(s.Config))
	if err != nil {
		return err
	}
	tmp := s.File + ".new"
	if err := os.WriteFile(tmp, b, 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, s.File)
}

// Start writes the configuration, starts the master and waits until it serves.
func (s *Service) Start(ctx context.Context) error {
	if err := s.Launch(); err != nil {
		return err
	}
	return s.WaitState(ctx, startTimeout, "serving")
}

// Launch starts the master and waits for nothing.
func (s *Service) Launch() error {
	if err := s.Write(); err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(s.Dir, "masterd.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	s.log = log
	argv := s.Argv
	if argv == nil {
		argv = []string{s.Masterd, "run", "--config", s.File}
	}
	s.cmd = exec.Command(argv[0], argv[1:]...)
	s.cmd.Dir = s.From
	s.cmd.Stdout, s.cmd.Stderr = log, log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	s.cmd.WaitDelay = time.Second
	if err := s.cmd.Start(); err != nil {
		return err
	}
	s.ended = make(chan struct{})
	go func() {
		s.err = s.cmd.Wait()
		close(s.ended)
	}()
	s.API = api.NewClient(filepath.Join(s.Dir, "run", "admin.sock"), "")
	return nil
}

// PID is the master's.
func (s *Service) PID() int { return s.cmd.Process.Pid }

// WaitState waits until status says so.
func (s *Service) WaitState(ctx context.Context, timeout time.Duration, state string) error {
	return s.Wait(ctx, timeout, "state "+state, func(st api.Status) bool { return st.State == state })
}

// Wait waits until the status is as wanted.
func (s *Service) Wait(ctx context.Context, timeout time.Duration, what string, ok func(api.Status) bool) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var last api.Status
	var lastErr error
	for pause := poll; ; pause = min(2*pause, pollMost) {
		st, err := s.API.Status(ctx)
		if err == nil {
			if last, lastErr = st, nil; ok(st) {
				return nil
			}
		} else if ctx.Err() == nil {
			lastErr = err
		}
		select {
		case <-s.ended:
			return fmt.Errorf("waiting for %s: the master ended: %v\n%s", what, s.err, s.Log(20))
		case <-ctx.Done():
			b, _ := json.Marshal(last)
			return fmt.Errorf("waiting for %s: not within %s (last error %v); status %s\n%s", what, timeout, lastErr, b, s.Log(20))
		case <-time.After(pause):
		}
	}
}

// Ended is closed when the master has ended.
func (s *Service) Ended() <-chan struct{} { return s.ended }

// ExitCode is the master's, once it has ended.
func (s *Service) ExitCode() int {
	<-s.ended
	return s.cmd.ProcessState.ExitCode()
}

// Signal sends a signal to the master alone.
func (s *Service) Signal(sig syscall.Signal) error { return s.cmd.Process.Signal(sig) }

// Stop stops the master with TERM; one that does not end in time is killed
// with everything in its directory's processes, and that is an error.
func (s *Service) Stop() error {
	if s.cmd == nil {
		return nil
	}
	defer s.log.Close()
	_ = s.Signal(syscall.SIGTERM)
	select {
	case <-s.ended:
	case <-time.After(stopTimeout):
		_ = s.cmd.Process.Kill()
		<-s.ended
		s.sweep()
		return fmt.Errorf("the master did not stop within %s\n%s", stopTimeout, s.Log(40))
	}
	if err := s.stopOther(); err != nil {
		s.sweep()
		return err
	}
	if left := s.sweep(); left > 0 {
		return fmt.Errorf("%d worker processes were left behind", left)
	}
	// One that was killed has left its cgroup.
	if was, err := contain.Clean(filepath.Join(s.Dir, "run")); err != nil || was && s.ExitCode() >= 0 {
		return fmt.Errorf("the master has left its cgroup behind (%v)", err)
	}
	return nil
}

// stopOther stops a master that the keeper has started in the place of ours.
func (s *Service) stopOther() error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	st, err := s.API.Status(ctx)
	if err != nil || st.Master.PID == s.PID() {
		return nil // there is none
	}
	_ = syscall.Kill(st.Master.PID, syscall.SIGTERM)
	for alive(st.Master.PID) {
		if ctx.Err() != nil {
			_ = syscall.Kill(st.Master.PID, syscall.SIGKILL)
			return fmt.Errorf("master %d, which the keeper has started, did not stop within %s\n%s", st.Master.PID, stopTimeout, s.Log(40))
		}
		time.Sleep(poll)
	}
	return nil
}

// alive: also a process that has ended and that nobody has waited for is not.
func alive(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, state, _ := strings.Cut(string(b), ") ")
	return err == nil && !strings.HasPrefix(state, "Z")
}

// sweep kills what still runs for this service, found by the control socket in
// its environment, and counts it.
func (s *Service) sweep() (n int) {
	for _, pid := range s.Processes() {
		_ = syscall.Kill(pid, syscall.SIGKILL)
		n++
	}
	return n
}

// Processes are those that run for this service besides the master: its workers,
// known by their environment, and its keeper, known by its command line.
func (s *Service) Processes() (pids []int) {
	dir := filepath.Join(s.Dir, "run")
	marks := map[string][]byte{"environ": []byte("MASTERD_RUNTIME_DIR=" + dir + "\x00"), "cmdline": []byte(dir + "/keeper.sock\x00")}
	all, _ := filepath.Glob("/proc/[0-9]*")
	for _, proc := range all {
		pid, _ := strconv.Atoi(filepath.Base(proc))
		for file, mark := range marks {
			if b, err := os.ReadFile(filepath.Join(proc, file)); err == nil && bytes.Contains(b, mark) && pid != os.Getpid() {
				pids = append(pids, pid)
				break
			}
		}
	}
	return pids
}

// Kill ends the master, and it alone, as nobody should.
func (s *Service) Kill() {
	_ = s.cmd.Process.Kill()
	<-s.ended
}

// KillBoth ends the master and its keeper at once.
func (s *Service) KillBoth(keeper int) {
	_ = syscall.Kill(keeper, syscall.SIGKILL)
	s.Kill()
}

// Log is the end of what the master wrote.
func (s *Service) Log(lines int) string {
	b, _ := os.ReadFile(filepath.Join(s.Dir, "masterd.log"))
	all := strings.Split(strings.TrimRight(string(b), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// CLI runs a verb of masterd against this service, as a person would.
func (s *Service) CLI(ctx context.Context, args ...string) (output string, code int) {
	out, err := s.Command(ctx, args...).CombinedOutput()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		code = exit.ExitCode()
	case err != nil:
		return err.Error(), -1
	}
	return string(out), code
}

// Command is a verb of masterd against this service, to be started.
func (s *Service) Command(ctx context.Context, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, s.Masterd, append([]string{"--config", s.File}, args...)...)
}

// Worker is the PID of a worker of the active generation.
func (s *Service) Worker(ctx context.Context) (int, error) {
	st, err := s.API.Status(ctx)
	if err != nil {
		return 0, err
	}
	for _, g := range st.Generations {
		if st.Active != nil && g.ID == st.Active.Generation && len(g.Workers) > 0 {
			return g.Workers[0].PID, nil
		}
	}
	return 0, errors.New("no active worker")
}
