// Package worker_test tries the SDK with what its own module does not have: the strict
// clients of test/load.
package worker_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/ipc/fdpass"
	"github.com/masterd/masterd/pkg/worker"
	"github.com/masterd/masterd/test/load"
)

const (
	patience = 20 * time.Second
	bodySize = 20_000

	// minAge is how old a connection is before it is asked to leave: the SDK's goaway.MinAge.
	minAge = 500 * time.Millisecond
)

// A strict client, which never sends again what it has begun, loses nothing
// however often the worker parks and is active again. (With the times as they are: a client
// that this machine is too slow for is refused a stream otherwise, and rightly.)
func TestUploadsWhileTheWorkerParks(t *testing.T) {
	echoes := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		w.Write(b)
	})
	t.Run("h2c", func(t *testing.T) { uploads(t, echoes, worker.H2C(), nil) })
	t.Run("tls", func(t *testing.T) {
		cert, key := certificate(t)
		uploads(t, echoes, worker.TLS(cert, key), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	})
}

func uploads(t *testing.T, h http.Handler, how worker.ListenerOption, client *tls.Config) {
	ln, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	m, ended := begin(t, h, how)
	m.activate(ln)
	plan := load.HTTP2{Addr: ln.Addr().String(), TLS: client, Clients: 4, Streams: 3, Path: "/", Body: bodySize, Check: func(body []byte) error {
		if !bytes.Equal(body, load.Body(bodySize)) {
			return fmt.Errorf("%d bytes that were not sent", len(body))
		}
		return nil
	}}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	result := make(chan load.HTTP2Result, 1)
	go func() { result <- plan.Run(ctx) }()
	for range 10 {
		m.ask(ipc.Message{Type: ipc.TypePark}, ipc.TypeParked)
		m.beatsFor(minAge)
		m.ask(ipc.Message{Type: ipc.TypeActivate, Activate: &ipc.Activate{}}, ipc.TypeAccepting)
		m.beatsFor(minAge / 5)
	}
	stop()
	var r load.HTTP2Result
	select {
	case r = <-result:
	case <-time.After(patience):
		t.Fatal("the client does not end")
	}
	t.Logf("%+v", r)
	if r.Failed != 0 || r.Uploads == 0 || r.Warned < 10 {
		t.Errorf("%+v", r)
	}
	m.send(ipc.Message{Type: ipc.TypeDrain, Drain: &ipc.Drain{}})
	if s := m.recv(ipc.TypeDrained).Stats; s == nil || s.Cut != 0 || s.InFlight != 0 || s.Open != 0 {
		t.Errorf("%+v", s)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Fatalf("Run has not returned\n%s", stacks())
	}
	leavesNothing(t)
}

// master is a master's end of one worker's connection.
type master struct {
	t    *testing.T
	link *ipc.Link
	seq  uint64
}

// begin runs a worker in this process under a master, up to ready. What Run returns comes by
// the channel.
func begin(t *testing.T, h http.Handler, how worker.ListenerOption) (*master, <-chan error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "c")
	socket, err := ipc.Listen(path, 0o600, -1, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	for key, value := range map[string]string{ipc.EnvControl: path, ipc.EnvWorker: "7", ipc.EnvSecret: "s3cret", ipc.EnvGeneration: "3", ipc.EnvService: "shop"} {
		t.Setenv(key, value)
	}
	w := worker.New(worker.Options{IgnoreSignals: true})
	w.Handle("http", h, how)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	t.Cleanup(cancel)
	link, _, err := socket.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { link.Close() })
	m := &master{t: t, link: link}
	m.recv(ipc.TypeHello)
	m.send(ipc.Message{Type: ipc.TypeWelcome, Welcome: &ipc.Welcome{Version: 1, Service: "shop", BeatMS: 20,
		Listeners: []ipc.Listener{{Name: "http", Address: "tcp://127.0.0.1:0"}}}})
	m.recv(ipc.TypeReady)
	return m, ended
}

func (m *master) send(msg ipc.Message, fds ...int) uint64 {
	m.t.Helper()
	m.seq++
	msg.Seq = m.seq
	if err := m.link.Send(msg, fds...); err != nil {
		m.t.Fatal(err)
	}
	return msg.Seq
}

// recv wants a message of this type next, beats aside.
func (m *master) recv(want ipc.Type) ipc.Message {
	m.t.Helper()
	m.link.SetReadDeadline(time.Now().Add(patience))
	for {
		msg, fds, err := m.link.Recv()
		fdpass.Close(fds...)
		if err != nil {
			m.t.Fatalf("%v instead of %q\n%s", err, want, stacks())
		}
		if msg.Type == want {
			return msg
		} else if msg.Type != ipc.TypeBeat {
			m.t.Fatalf("got %+v instead of %q", msg, want)
		}
	}
}

// ask sends a request and wants this answer to it.
func (m *master) ask(msg ipc.Message, want ipc.Type, fds ...int) {
	m.t.Helper()
	if seq, got := m.send(msg, fds...), m.recv(want); got.Seq != seq {
		m.t.Fatalf("%q answers %d, not %d", want, got.Seq, seq)
	}
}

func (m *master) activate(ln *net.TCPListener) {
	m.t.Helper()
	fd, err := fdpass.DuplicateOf(ln)
	if err != nil {
		m.t.Fatal(err)
	}
	defer fdpass.Close(fd)
	m.ask(ipc.Message{Type: ipc.TypeActivate, Activate: &ipc.Activate{Listeners: []string{"http"}}}, ipc.TypeAccepting, fd)
}

// beatsFor listens to the worker for so long.
func (m *master) beatsFor(d time.Duration) {
	m.t.Helper()
	for begun := time.Now(); time.Since(begun) <= d; {
		m.recv(ipc.TypeBeat)
	}
}

// leavesNothing waits until no goroutine of the worker's is left.
func leavesNothing(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		s := stacks()
		if !strings.Contains(s, "masterd/pkg/worker") && !strings.Contains(s, "net/http.(*Server)") && !strings.Contains(s, "net/http.(*conn).serve") {
			return
		} else if time.Now().After(end) {
			t.Fatalf("goroutines are left\n%s", s)
		}
	}
}

func stacks() string {
	buf := make([]byte, 1<<20)
	return string(buf[:runtime.Stack(buf, true)])
}

// certificate writes the certificate of httptest and its key.
func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	s := httptest.NewTLSServer(nil)
	defer s.Close()
	pair := s.TLS.Certificates[0]
	der, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: pair.Certificate[0]}, key: {Type: "PRIVATE KEY", Bytes: der}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}
