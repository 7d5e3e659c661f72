package contain

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/masterd/masterd/pkg/master/proc"
	"github.com/masterd/masterd/pkg/master/process"
)

// bus is a systemd that is asked by D-Bus over its private socket: real messages, and a
// cgroup that the test has made.
type bus struct {
	t      *testing.T
	mu     sync.Mutex // of what follows
	socket string
	result string                       // of its jobs
	refuse string                       // the error that it answers with
	move   func(dir string, pid uint32) // what its job does
	silent string                       // it says nothing any more: "from the start", "to calls", "after the job"
	props  map[string]dbus.Variant      // of the last scope
	name   string
	mode   string
	conns  sync.WaitGroup
}

func fakeBus(t *testing.T) *bus {
	t.Helper()
	dir, err := os.MkdirTemp("", "bus")
	if err != nil {
		t.Fatal(err)
	}
	b := &bus{t: t, socket: filepath.Join(dir, "private"), result: "done"}
	l, err := net.Listen("unix", b.socket)
	if err != nil {
		t.Fatal(err)
	}
	b.conns.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			b.conns.Go(func() { b.serve(c) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		b.conns.Wait()
		_ = os.RemoveAll(dir)
	})
	return b
}

func (b *bus) serve(c net.Conn) {
	defer c.Close()
	in := bufio.NewReader(c)
	b.mu.Lock()
	silent := b.silent
	b.mu.Unlock()
	if silent == "from the start" {
		_, _ = in.Peek(1 << 10) // until the client has gone
		return
	}
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		switch f := strings.Fields(strings.TrimLeft(line, "\x00")); {
		case len(f) == 1 && f[0] == "AUTH":
			_, _ = c.Write([]byte("REJECTED EXTERNAL ANONYMOUS\r\n"))
			continue
		case len(f) > 1 && f[1] == "EXTERNAL":
			_, _ = c.Write([]byte("OK 0123456789abcdef0123456789abcdef\r\n"))
			continue
		case len(f) == 1 && f[0] == "BEGIN":
		default:
			b.t.Errorf("%q", line)
			return
		}
		break
	}
	call, err := dbus.DecodeMessage(in)
	if err != nil {
		return
	}
	b.answer(c, call)
	_, _ = in.Peek(1)
}

func (b *bus) answer(c net.Conn, call *dbus.Message) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var props []property
	var aux []struct {
		Name       string
		Properties []property
	}
	if err := dbus.Store(call.Body, &b.name, &b.mode, &props, &aux); err != nil {
		b.t.Error(err)
		return
	}
	b.props = map[string]dbus.Variant{}
	for _, p := range props {
		b.props[p.Name] = p.Value
	}
	serial := uint32(0)
	send := func(kind dbus.Type, headers map[dbus.HeaderField]dbus.Variant, body ...any) {
		serial++
		m := dbus.Message{Type: kind, Headers: headers, Body: body}
		if len(body) > 0 {
			m.Headers[dbus.FieldSignature] = dbus.MakeVariant(dbus.SignatureOf(body...))
		}
		// The library alone sets serials; this is where it is.
		var text strings.Builder
		if err := m.EncodeTo(&text, binary.LittleEndian); err != nil {
			b.t.Error(err)
		}
		raw := []byte(text.String())
		binary.LittleEndian.PutUint32(raw[8:], serial)
		_, _ = c.Write(raw)
	}
	reply := func() map[dbus.HeaderField]dbus.Variant {
		return map[dbus.HeaderField]dbus.Variant{dbus.FieldReplySerial: dbus.MakeVariant(call.Serial()), dbus.FieldSender: dbus.MakeVariant(systemd)}
	}
	removed := func(job dbus.ObjectPath, result string) {
		send(dbus.TypeSignal, map[dbus.HeaderField]dbus.Variant{
			dbus.FieldPath: dbus.MakeVariant(dbus.ObjectPath("/org/freedesktop/systemd1")), dbus.FieldInterface: dbus.MakeVariant(manager), dbus.FieldMember: dbus.MakeVariant("JobRemoved"),
			dbus.FieldSender: dbus.MakeVariant(systemd),
		}, uint32(1), job, b.name, result)
	}
	const job dbus.ObjectPath = "/org/freedesktop/systemd1/job/7"
	switch {
	case b.silent == "to calls":
		return
	case b.refuse != "":
		h := reply()
		h[dbus.FieldErrorName] = dbus.MakeVariant("org.freedesktop.DBus.Error.AccessDenied")
		send(dbus.TypeError, h, b.refuse)
		return
	}
	removed("/org/freedesktop/systemd1/job/6", "failed") // somebody else's
	send(dbus.TypeMethodReply, reply(), job)
	if b.silent == "after the job" {
		return
	}
	if b.move != nil {
		b.move(b.name, b.props["PIDs"].Value().([]uint32)[0])
	}
	removed(job, b.result)
}

// inScopes is for workers whose systemd is a fake.
func inScopes(t *testing.T) (*Workers, *bus) {
	t.Helper()
	w := open(t, true)
	b := fakeBus(t)
	w.scopes = scopes{base: w.group + "-slice/masterd:shop", unit: "masterd@shop.service", socket: b.socket, timeout: 20 * time.Second}
	slice := filepath.Dir(w.scopes.base)
	if err := os.Mkdir(slice, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := endGroup(slice); err != nil { // what systemd would remove
			t.Error(err)
		}
	})
	b.mu.Lock()
	defer b.mu.Unlock()
	b.move = func(name string, pid uint32) {
		dir := filepath.Join(slice, name)
		if err := errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(filepath.Join(dir, procsFile), fmt.Append(nil, pid), 0)); err != nil {
			t.Error(err)
		}
	}
	return w, b
}

// enter starts a worker in a scope.
func enter(t *testing.T, w *Workers, id uint64, script string, l Limits) (*proc.Process, Worker, error) {
	t.Helper()
	p, err := proc.Start(proc.Spec{
		Program: "/bin/sh", Args: []string{"sh", "-c", script}, Env: []string{"PATH=/bin:/usr/bin", mark(t) + strconv.FormatUint(id, 10)},
		Enter: func(pid int) error { return w.Enter(t.Context(), id, pid, l) },
	})
	if err != nil {
		return nil, Worker{}, err
	}
	t.Cleanup(p.Close)
	begun, err := process.Begun(p.PID())
	return p, Worker{ID: id, PID: p.PID(), Begun: begun}, err
}

// A worker in a scope is kept together like one in a cgroup below masterd's own, by this
// master and by one that is started elsewhere. Its scope is systemd's to remove.
func TestScope(t *testing.T) {
	w, b := inScopes(t)
	p, named, err := enter(t, w, 7, "setsid sleep 1000 & exec sleep 1000", Limits{Description: "shop, worker 7"})
	if err != nil {
		t.Fatal(err)
	}
	if !p.Contained() {
		t.Error("it is not contained")
	}
	b.mu.Lock()
	if b.name != "masterd:shop-worker-7.scope" || b.mode != "fail" {
		t.Errorf("%s, %s", b.name, b.mode)
	}
	for name, want := range map[string]string{
		"Description": `"shop, worker 7"`, "Slice": fmt.Sprintf("%q", filepath.Base(w.group)+"-slice"), "PIDs": fmt.Sprintf("[%d]", p.PID()),
		"CollectMode": `"inactive-or-failed"`, "DelegateControllers": "@as []", "Before": `["masterd@shop.service"]`,
	} {
		if got := b.props[name].String(); got != want && got != "@au "+want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	if len(b.props) != 6 {
		t.Errorf("%v", b.props)
	}
	b.mu.Unlock()
	both := func(id uint64) func() bool {
		return func() bool { // the second in a session of its own
			pids := w.Processes(id)
			if len(pids) != 2 {
				return false
			}
			group, _ := syscall.Getpgid(pids[1])
			return group == pids[1]
		}
	}
	eventually(t, "both to be there", both(7))
	if id, ok := w.Of(w.Processes(7)[1]); !ok || id != 7 {
		t.Errorf("%d, %v", id, ok)
	}
	if got := w.Left(); !slices.Equal(got, []uint64{7}) {
		t.Errorf("left: %v", got)
	}
	next := Open(Options{RuntimeDir: w.opt.RuntimeDir, Before: w.Cgroups(), Marked: marked(t)})
	if got := next.Left(); !slices.Equal(got, []uint64{7}) {
		t.Errorf("left for the next master: %v", got)
	}
	if err := p.SignalAlone(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	if ended, err := next.End(named); err != nil || len(ended) != 1 {
		t.Errorf("ended %v, %v", ended, err)
	}
	if dir := scopeOf(w.scopes.base, 7); !isGroup(dir) {
		t.Errorf("%s is gone", dir)
	}
	if left := w.Left(); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	// All of them, at a stop.
	if _, _, err = enter(t, w, 8, "setsid sleep 1000 & exec sleep 1000", Limits{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "both to be there", both(8))
	if ended, err := w.EndAll(); err != nil || len(ended) != 2 {
		t.Errorf("ended %v, %v", ended, err)
	}
}

// A worker that cannot have its limits is not started, and the reason says what to do.
func TestScopeRefused(t *testing.T) {
	for name, c := range map[string]struct {
		set    func(w *Workers, b *bus)
		limits Limits
		want   string
	}{
		"no systemd":        {set: func(w *Workers, b *bus) { w.scopes.socket += "-none" }, want: "leave these limits out"},
		"refused":           {set: func(_ *Workers, b *bus) { b.refuse = "Interactive authentication required." }, want: "it refuses masterd:shop-worker-1.scope: Interactive authentication required."},
		"its job fails":     {set: func(_ *Workers, b *bus) { b.result, b.move = "failed", nil }, want: "journalctl -u masterd:shop-worker-1.scope"},
		"it is elsewhere":   {set: func(_ *Workers, b *bus) { b.move = nil }, want: "start masterd as a unit"},
		"no controller":     {limits: Limits{Tasks: 100}, want: "worker.limits.tasks is not in force"},
		"none of memory":    {limits: Limits{Memory: 1 << 30}, want: "worker.limits.memory is not in force"},
		"none of its high":  {limits: Limits{MemoryHigh: 1 << 30}, want: "worker.limits.memory_high is not in force"},
		"hangs at once":     {set: hangs("from the start"), want: "did not answer at"},
		"hangs at the call": {set: hangs("to calls"), want: "did not answer at"},
		"hangs at the job":  {set: hangs("after the job"), want: "did not answer at"},
	} {
		t.Run(name, func(t *testing.T) {
			w, b := inScopes(t)
			if c.set != nil {
				b.mu.Lock()
				c.set(w, b)
				b.mu.Unlock()
			}
			p, _, err := enter(t, w, 1, "exec sleep 1000", c.limits)
			if err == nil {
				_ = p.Signal(syscall.SIGKILL)
				t.Fatal("it was started")
			}
			if !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "worker.limits.tasks, memory and memory_high need a scope") {
				t.Errorf("%v", err)
			}
			if left := members(filepath.Dir(w.group)); slices.ContainsFunc(left, func(pid int) bool { id, ok := w.marker()(pid); return ok && id == 1 }) {
				t.Error("its process is left")
			}
		})
	}
}

func hangs(when string) func(*Workers, *bus) {
	return func(w *Workers, b *bus) { b.silent, w.scopes.timeout = when, 50*time.Millisecond }
}

// Who has asked for a scope and is to end waits for nobody.
func TestScopeIsGivenUp(t *testing.T) {
	w, b := inScopes(t)
	b.mu.Lock()
	b.silent = "after the job"
	b.mu.Unlock()
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan error)
	go func() { over <- w.Enter(ctx, 1, os.Getpid(), Limits{}) }()
	cancel()
	if err := <-over; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// Limits are told to systemd in its own words.
func TestScopeProperties(t *testing.T) {
	got := map[string]string{}
	for _, p := range (scopes{}).properties("/sys/fs/cgroup/a.slice/b-worker-1.scope", 3, Limits{Tasks: 100, Memory: 1 << 30, MemoryHigh: 1 << 29}) {
		got[p.Name] = p.Value.String()
	}
	for name, want := range map[string]string{"TasksMax": "@t 100", "MemoryMax": "@t 1073741824", "MemoryHigh": "@t 536870912", "Slice": `"a.slice"`, "Before": ""} {
		if got[name] != want {
			t.Errorf("%s is %q, want %q", name, got[name], want)
		}
	}
}
