package main

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/trust"
)

// In a directory that everybody may use only the one who listens can tell.
func TestPeerOfASocket(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to listen as another user")
	}
	c := newCLI(t)
	dir := filepath.Join(c.dir, "shop")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, adminSocket)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a := newApp()
	a.env = func(string) string { return "" }
	ok := a.client(dir, trust.Owners{54321})
	if err := ok.Alive(t.Context()); err != nil {
		t.Errorf("root listens: %v", err)
	}
	// The kernel notes who called listen last.
	asUser(t, 54322, func() {
		raw, err := l.SyscallConn()
		if err != nil {
			t.Error(err)
		}
		_ = raw.Control(func(fd uintptr) { err = syscall.Listen(int(fd), 8) })
		if err != nil {
			t.Error(err)
		}
	})
	var f *api.Fault
	if err := ok.Alive(t.Context()); !errors.As(err, &f) || f.Kind != api.Untrusted || !strings.Contains(err.Error(), "uid 54322") {
		t.Errorf("a stranger listens: %v", err)
	}
	if err := a.client(dir, trust.Owners{54322}).Alive(t.Context()); err != nil {
		t.Errorf("an owner listens: %v", err)
	}
}

// asUser runs f on a thread that is another user's, and that ends with it.
func asUser(t *testing.T, uid int, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked
		if _, _, e := syscall.RawSyscall(syscall.SYS_SETRESUID, ^uintptr(0), uintptr(uid), ^uintptr(0)); e != 0 {
			t.Error(e)
			return
		}
		f()
	}()
	<-done
}

// A service's user often owns a directory above its runtime directory; root and
// operators reach it there.
func TestServiceBelowADirectoryOfItsUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to listen as another user")
	}
	for owner, want := range map[int]string{54322: "", 54323: "it is uid 54323, neither root nor uid 54321 or uid 54322"} {
		up := filepath.Join(newCLI(t).dir, "up")
		dir := filepath.Join(up, "shop")
		if err := errors.Join(os.MkdirAll(dir, 0o755), os.Chown(up, 54322, 54322), os.Chown(dir, owner, owner)); err != nil {
			t.Fatal(err)
		}
		var l net.Listener
		var err error
		if l, err = net.Listen("unix", filepath.Join(dir, adminSocket)); err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		asUser(t, owner, func() {
			raw, err := l.(*net.UnixListener).SyscallConn()
			if err != nil {
				t.Error(err)
				return
			}
			_ = raw.Control(func(fd uintptr) { err = syscall.Listen(int(fd), 8) })
			if err != nil {
				t.Error(err)
			}
		})
		a := newApp()
		a.env = func(string) string { return "" }
		if err := a.client(dir, trust.Owners{54321}).Alive(t.Context()); want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("a service of uid %d: %v", owner, err)
		}
	}
}
