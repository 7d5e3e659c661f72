//go:build linux

package worker

import (
	"net"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/worker/internal/workertest"
)

// The connection that it inherits is the first; the secret that comes over it is what
// the next hello has.
func TestASecretIsRenewed(t *testing.T) {
	m := newMaster(t)
	ours, theirs, err := ipc.Pair()
	if err != nil {
		t.Fatal(err)
	}
	number, err := unix.FcntlInt(uintptr(theirs), unix.F_DUPFD, 3) // as a shim leaves it: without close-on-exec
	if err != nil {
		t.Fatal(err)
	}
	env := m.env()
	if env[ipc.EnvControlFD], err = ipc.InheritedAs(number, theirs); err != nil {
		t.Fatal(err)
	}
	unix.Close(theirs)
	file := os.NewFile(uintptr(ours), "control")
	conn, err := net.FileConn(file)
	file.Close()
	if err != nil {
		t.Fatal(err)
	}
	k := &masterLink{m: m, c: conn.(*net.UnixConn)}
	t.Cleanup(k.close)
	w := workerWith(t, Options{}, env)
	if _, there := os.LookupEnv(ipc.EnvControlFD); there || env[ipc.EnvControlFD] != "" {
		t.Error("the environment still tells of the connection")
	}
	w.Handle("http", workertest.Pong)
	r := run(t, w)
	if hello := k.recv(ipc.TypeHello).Hello; hello.Secret != m.secret || hello.Max < ipc.RenewVersion {
		t.Errorf("%+v", hello)
	}
	k.welcome("http")
	k.recv(ipc.TypeReady)
	m.secret = "another"
	k.ask(ipc.Message{Type: ipc.TypeRenew, Renew: &ipc.Renew{Secret: m.secret}}, ipc.TypeRenewed)
	k.close()
	k, _ = m.accept() // with that secret, by the path
	k.welcome("http")
	k.drain(0)
	k.drained()
	r.wait()
}

// The number of a connection that somebody has closed is another file's by now, and
// left alone.
func TestAConnectionThatIsNotThereAnyMore(t *testing.T) {
	m := newMaster(t)
	a, b, err := ipc.Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(a)
	env := m.env()
	if env[ipc.EnvControlFD], err = ipc.InheritedAs(b, a); err != nil { // b is a socket, and not that one
		t.Fatal(err)
	}
	w := workerWith(t, Options{}, env)
	if _, err := unix.FcntlInt(uintptr(b), unix.F_GETFD, 0); err != nil {
		t.Errorf("a descriptor of somebody else's was closed: %v", err)
	}
	unix.Close(b)
	w.Handle("http", workertest.Pong)
	r := run(t, w)
	k, _ := m.accept()
	k.welcome("http")
	k.recv(ipc.TypeReady)
	k.drain(0)
	k.drained()
	r.wait()
}
