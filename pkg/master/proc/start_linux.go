package proc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/ipc/fdpass"
)

const (
	startLimit   = 30 * time.Second // from the fork to the exec; a program on a dead network mount hangs for ever
	abandonLimit = 2 * time.Second  // for a killed shim to be gone; one that hangs in the kernel may never be
	answerLimit  = 64 << 10         // bytes that a shim may answer
)

// Start runs s and returns once the program has taken the shim's place, or
// once the shim has said why it could not: a [*StartError], after which no
// process is left. It takes about 2 ms, and at most 30 s.
//
// The descriptors in s are neither closed nor changed; in particular their
// O_NONBLOCK, which they share with every process that has them, stays as it is.
func Start(s Spec) (*Process, error) {
	p, err := start(&s, startLimit)
	if err == nil {
		return p, nil
	}
	failed := &StartError{Program: s.Program, User: s.User, Dir: s.Dir, Reason: err.Error(), Err: err}
	if e, ok := errors.AsType[*refused](err); ok {
		failed.Err = e.errno
	}
	return nil, failed
}

// refused is a shim's fatal refusal.
type refused struct {
	text  string
	errno syscall.Errno
}

func (r *refused) Error() string { return r.text }

func start(s *Spec, limit time.Duration) (*Process, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	who, err := s.identify()
	if err != nil {
		return nil, err
	}
	o := order{
		Program: []byte(s.Program), Args: Octets(s.Args), Env: Octets(s.Env), Dir: []byte(s.Dir),
		Who: who, NoFile: s.NoFile, NProc: s.Processes, Core: s.Core, Bound: s.Bounding, NoNew: s.NoNewPrivileges,
		OOM: s.OOMScoreAdj, Filter: s.Filter, Files: len(s.Files), PIDEnv: s.PIDEnv,
	}
	if len(s.Args) == 0 {
		o.Args = [][]byte{o.Program}
	}
	if s.ListenEnv {
		o.Listen = make([]string, 0, len(s.Files))
		for _, f := range s.Files {
			o.Listen = append(o.Listen, f.Name)
		}
	}
	orders, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}

	talk, its, err := fdpass.StreamPair(0)
	if err != nil {
		return nil, fmt.Errorf("no socket to its shim: %w", err)
	}
	defer talk.Close()
	pid, pidfd, contained, err := fork(s, its)
	fdpass.Close(its)
	if err != nil {
		return nil, err
	}

	filter := -1
	if s.Enter != nil { // it does nothing before it has its order
		err = s.Enter(pid)
		contained = err == nil
	}
	if err == nil {
		filter, err = converse(talk, orders, limit)
	}
	p := watch(pid, pidfd)
	p.filter, p.contained = filter, contained
	if err != nil {
		return nil, p.abandon(err)
	}
	return p, nil
}

// fork makes the shim's process. The descriptors are passed as duplicates, so
// that one that is not open is found here and named.
func fork(s *Spec, talk int) (pid, pidfd int, contained bool, err error) {
	var files []uintptr
	defer func() {
		for _, fd := range files {
			unix.Close(int(fd))
		}
	}()
	null, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, -1, false, fmt.Errorf("open %s: %w", os.DevNull, err)
	}
	defer unix.Close(null)
	dup := func(name string, fd int) error {
		if fd <= 0 {
			fd = null
		}
		// Above the standard three even when the master was started without
		// them; exec.Cmd.ExtraFiles would clear O_NONBLOCK for everybody.
		n, err := fdpass.Duplicate(fd)
		if err != nil {
			return fmt.Errorf("pass %s (descriptor %d) to it: %w", name, fd, err)
		}
		files = append(files, uintptr(n))
		return nil
	}
	err = errors.Join(dup("standard input", 0), dup("standard output", s.Stdout), dup("standard error", s.Stderr))
	for _, f := range s.Files {
		if f.FD < 0 {
			err = errors.Join(err, fmt.Errorf("pass %q to it: descriptor %d is not open", f.Name, f.FD))
			continue
		}
		err = errors.Join(err, dup(strconv.Quote(f.Name), f.FD))
	}
	err = errors.Join(err, dup("its shim's socket", talk))
	if err != nil {
		return 0, -1, false, err
	}

	shim := s.Shim
	if len(shim) == 0 {
		shim = []string{"/proc/self/exe"} // in the child this is still what we run, even if the file has been replaced
	}
	argv := append(append([]string{}, shim...), shimArgument, strconv.Itoa(len(files)-1))
	pidfd = -1
	attr := &syscall.ProcAttr{
		Env:   []string{"GOGC=off", "GOMAXPROCS=1"}, // it lives for a millisecond
		Files: files,
		// A session of its own has no controlling terminal: a worker could put input
		// into the one of a master that was started by hand.
		//
		// No Pdeathsig: it comes when the thread that forked ends (golang/go#27505).
		Sys: &syscall.SysProcAttr{Setsid: true, PidFD: &pidfd, UseCgroupFD: s.Cgroup > 0, CgroupFD: s.Cgroup},
	}
	pid, err = syscall.ForkExec(shim[0], argv, attr)
	if err != nil && s.Cgroup > 0 { // clone3 is refused in some sandboxes
		attr.Sys.UseCgroupFD = false
		if pid, err = syscall.ForkExec(shim[0], argv, attr); err == nil {
			contained = join(s.Cgroup, pid) == nil // it does nothing before it has its order
		}
	} else {
		contained = s.Cgroup > 0
	}
	if err != nil {
		return 0, -1, false, fmt.Errorf("its shim %s could not be run: %w", shim[0], err)
	}
	return pid, pidfd, contained, nil
}

// join moves a process into a cgroup.
func join(dir, pid int) error {
	fd, err := unix.Openat(dir, "cgroup.procs", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = unix.Write(fd, []byte(strconv.Itoa(pid)))
	return err
}

// converse gives the shim its order and hears what became of it. filter is -1
// if none came.
func converse(talk *net.UnixConn, orders []byte, limit time.Duration) (filter int, err error) {
	talk.SetDeadline(time.Now().Add(limit))
	_, sent := talk.Write(orders)
	if sent == nil {
		sent = talk.CloseWrite()
	}
	answer, filter, err := answerOf(talk)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(sent, os.ErrDeadlineExceeded):
		return filter, fmt.Errorf("it was not run within %s; is its file system still there?", limit)
	case err != nil && !errors.Is(err, syscall.ECONNRESET):
		return filter, fmt.Errorf("hear from its shim: %w", err)
	}
	ran := false
	for line := range bytes.Lines(answer) {
		if line[0] == aboutToRun {
			ran = true
			continue
		}
		if line[0] == tookFilter {
			continue
		}
		var r refusal
		if json.Unmarshal(line, &r) != nil {
			return filter, fmt.Errorf("its shim answered %q", line)
		}
		if r.Fatal {
			return filter, &refused{r.Text, r.Errno}
		}
	}
	if !ran {
		return filter, shimDied{}
	}
	return filter, nil
}

// answerOf reads to the end, and takes the descriptor that may come.
func answerOf(talk *net.UnixConn) (answer []byte, filter int, err error) {
	filter = -1
	buf := make([]byte, 4<<10)
	for len(answer) < answerLimit {
		n, fds, err := fdpass.ReadStream(talk, buf)
		for _, fd := range fds {
			fdpass.Close(filter)
			filter = fd
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return answer, filter, err
		}
		answer = append(answer, buf[:n]...)
	}
	return answer, filter, nil
}

// shimDied: the shim ended without a word, by a crash of its own or because it
// was killed.
type shimDied struct{}

func (shimDied) Error() string { return "its shim died before it could run it" }

// abandon leaves no process behind after a start that failed.
func (p *Process) abandon(why error) error {
	defer p.Close()
	p.Signal(syscall.SIGKILL)
	limit := time.NewTimer(abandonLimit)
	defer limit.Stop()
	select {
	case <-p.Done():
		if _, ok := errors.AsType[shimDied](why); ok {
			return fmt.Errorf("%w: %s; if it was not killed, its user may have as many processes as it may "+
				"(worker.limits.processes)", why, p.Exit())
		}
		return why
	case <-limit.C:
		return fmt.Errorf("%w; process %d does not die of KILL either", why, p.pid)
	}
}
