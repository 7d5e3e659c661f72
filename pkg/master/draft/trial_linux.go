package draft

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/masterd/masterd/pkg/ipc/fdpass"
	"github.com/masterd/masterd/pkg/master/bindsub"
	"github.com/masterd/masterd/pkg/master/claims"
	"github.com/masterd/masterd/pkg/master/contain"
	"github.com/masterd/masterd/pkg/master/proc"
	"github.com/masterd/masterd/pkg/master/process"
)

// Limits of a trial.
const (
	settled     = 700 * time.Millisecond // without another bind: it has bound what it binds
	trialLook   = 30 * time.Millisecond
	trialEnd    = 3 * time.Second // from TERM to KILL
	trialDrain  = time.Second     // for its last output
	maxBinds    = 16
	maxOutput   = 16 << 10 // bytes that are kept
	trialMarker = "MASTERD_INIT"
)

// trial is a program that runs for once.
type trial struct {
	p    *Program
	shim []string

	mu    sync.Mutex
	binds []Bind
	last  time.Time // of the latest bind

	output   []byte // of its reader, until that has ended
	overflow bool
}

// Once starts a program under the filter by which its binds are seen, asks what it bound what it
// answers, and ends it with all that it has started. It runs as this user, where the command was
// typed, in the environment of a worker. shim is how the exec shim is started; nil: by this program.
func (p *Program) Once(ctx context.Context, shim []string) (*Trial, error) {
	t := &trial{p: p, shim: shim}
	return t.run(ctx)
}

func (t *trial) run(ctx context.Context) (result *Trial, err error) {
	ctx, cancel := context.WithTimeout(ctx, TrialTime)
	defer cancel()
	dir, err := os.MkdirTemp("", "masterd-init-") // its processes are told from others by it
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	mark := trialMarker + "=" + dir
	tree := contain.Open(contain.Options{RuntimeDir: dir, Marked: func(env []string) (uint64, bool) { return 1, slices.Contains(env, mark) }})
	defer tree.Close()
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer read.Close()
	first, err := t.start(tree, write, mark)
	write.Close()
	if err != nil {
		return nil, err
	}
	defer first.Close()
	reading := make(chan struct{})
	go func() { defer close(reading); t.read(read) }()
	s, err := bindsub.Begin(bindsub.Options{FD: first.Filter(), Rival: t.bound, Fact: t.fact, Noted: func(string) {},
		Give: func(string) (int, bool, error) { return -1, false, errors.ErrUnsupported }})
	if err != nil {
		err = fmt.Errorf("%w: %w", ErrCalls, err)
	}
	result = &Trial{}
	if err == nil {
		t.watch(ctx, first, result)
		result.Beside = t.beside(tree, first.PID())
	}
	t.end(tree, first, result)
	if s != nil {
		s.Close()
	}
	_ = read.SetReadDeadline(time.Now().Add(trialDrain))
	<-reading
	result.Output = lines(t.output, t.overflow)
	t.name(result)
	return result, err
}

func (t *trial) start(tree *contain.Workers, output *os.File, mark string) (*proc.Process, error) {
	extra := proc.LoginEnv("")
	for name, value := range t.p.Env {
		extra[name] = value
	}
	name, value, _ := strings.Cut(mark, "=")
	extra[name] = value
	args := slices.Clone(t.p.Typed)
	args[0] = t.p.Path
	spec := proc.Spec{Shim: t.shim, Program: t.p.Path, Args: args, Dir: t.p.Dir, Env: proc.CleanEnv(extra, nil), Filter: true}
	_ = fdpass.Control(output, func(fd int) error { spec.Stdout, spec.Stderr = fd, fd; return nil })
	if group, err := tree.Place(1); err == nil && group > 0 {
		spec.Cgroup = group
		defer fdpass.Close(group)
	}
	p, err := proc.Start(spec)
	if why, ok := errors.AsType[*proc.StartError](err); ok && strings.Contains(why.Reason, "its calls cannot be "+
		"answered") {
		return nil, fmt.Errorf("%w: %s", ErrCalls, why.Reason)
	}
	return p, err
}

// bound notes a bind; the kernel does it then.
func (t *trial) bound(at netip.AddrPort, dual bool) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.binds) < maxBinds && !slices.ContainsFunc(t.binds, func(b Bind) bool { return b.At == at && b.Dual == dual }) {
		t.binds, t.last = append(t.binds, Bind{At: at, Dual: dual}), time.Now()
	}
	return ""
}

func (t *trial) fact(f bindsub.Fact) {
	if s, ok := f.(bindsub.Sharing); ok {
		t.bound(s.At, s.Dual)
	}
}

// watch waits until it has bound what it binds, and asks there.
func (t *trial) watch(ctx context.Context, p *proc.Process, result *Trial) {
	look := time.NewTicker(trialLook)
	defer look.Stop()
	for over := false; !over; {
		select {
		case <-ctx.Done():
			over = true
		case <-p.Done():
			over = true // it may have left somebody who serves
		case <-look.C:
		}
		t.mu.Lock()
		result.Binds = slices.Clone(t.binds)
		quiet := len(t.binds) > 0 && time.Since(t.last) > settled
		t.mu.Unlock()
		over = over || quiet && takes(ctx, result.Binds[0])
	}
	if p.Ended() {
		result.Ended = p.Exit().String()
	}
	asking, cancel := context.WithTimeout(context.WithoutCancel(ctx), TrialTime)
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		if errors.Is(context.Cause(ctx), context.Canceled) {
			cancel() // an operator's interrupt, and not the end of the time
		}
	})
	defer stop()
	for i := range result.Binds {
		if p.Ended() && len(process.Group(p.PID())) == 0 {
			return // whoever answers there is another
		}
		result.Binds[i].Answer = ask(asking, result.Binds[i].dial())
	}
}

// dial is the address to connect to.
func (b Bind) dial() string {
	switch {
	case b.Dual, b.At.Addr() == netip.IPv4Unspecified():
		return fmt.Sprintf("127.0.0.1:%d", b.At.Port())
	case b.At.Addr() == netip.IPv6Unspecified():
		return fmt.Sprintf("[::1]:%d", b.At.Port())
	}
	return b.At.String()
}

func takes(ctx context.Context, b Bind) bool {
	c, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", b.dial())
	if err == nil {
		c.Close()
	}
	return err == nil
}

// beside are the paths that it has made for itself alone.
func (t *trial) beside(tree *contain.Workers, pid int) []string {
	all := tree.Processes(1)
	if len(all) == 0 {
		all = process.Group(pid)
	}
	if len(all) == 0 {
		return nil
	}
	c, err := claims.Of(all, t.p.Typed)
	if err != nil {
		return nil
	}
	return c.Paths()
}

// end ends it: it is asked first, and killed with all that it has started.
func (t *trial) end(tree *contain.Workers, p *proc.Process, result *Trial) {
	begun, _ := process.Begun(p.PID())
	if !p.Ended() {
		_ = p.Signal(syscall.SIGTERM)
		limit := time.NewTimer(trialEnd)
		defer limit.Stop()
		select {
		case <-p.Done():
		case <-limit.C:
		}
	}
	left, _ := tree.End(contain.Worker{ID: 1, PID: p.PID(), Begun: begun})
	result.Background = result.Ended != "" && p.Exit().Code == 0 && len(left) > 0
	_ = p.Signal(syscall.SIGKILL)
	select {
	case <-p.Done():
	case <-time.After(trialEnd): // it hangs in the kernel
	}
}

// read keeps the end of its output.
func (t *trial) read(from *os.File) {
	b := make([]byte, 4<<10)
	for {
		n, err := from.Read(b)
		if t.output = append(t.output, b[:n]...); len(t.output) > 2*maxOutput {
			t.output, t.overflow = slices.Clone(t.output[len(t.output)-maxOutput:]), true
		}
		if err != nil {
			return
		}
	}
}

// lines are those of an output, the first of which may be half of one.
func lines(output []byte, cut bool) []string {
	all := strings.Split(strings.TrimRight(string(output), "\n"), "\n")
	if cut {
		all = all[1:]
	}
	return slices.DeleteFunc(all, func(l string) bool { return strings.TrimSpace(l) == "" })
}

// serving is what the SDK logs of each listener, as text or JSON.
var serving = lazy(`worker: serving\b.*?\blistener"?[=:]"?([A-Za-z0-9_-]+)"?.*?\baddress"?[=:]"?([0-9a-fA-F.:\[\]]+)`)

// name names binds as an SDK program calls them.
func (t *trial) name(result *Trial) {
	for _, line := range result.Output {
		m := serving().FindStringSubmatch(line)
		if m == nil {
			continue
		}
		at, err := netip.ParseAddrPort(m[2])
		for i := range result.Binds {
			if err == nil && result.Binds[i].At == netip.AddrPortFrom(at.Addr().Unmap(), at.Port()) {
				result.Binds[i].Name = m[1]
			}
		}
	}
}
