package worker

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/worker/internal/workertest"
)

// child is main of the test binary when it is run as a worker: the environment
// of systemd and signals want a process of their own.
func child(how string) int {
	announce, _ := time.ParseDuration(os.Getenv("WORKER_TEST_ANNOUNCE"))
	w := New(Options{Log: slog.New(slog.NewTextHandler(os.Stderr, nil)), Announce: announce, DrainTimeout: time.Minute})
	for _, key := range []string{"LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"} {
		if _, ok := os.LookupEnv(key); ok {
			fmt.Println(key, "is still in the environment")
			return 1
		}
	}
	entered := make(chan struct{}, 1)
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(rw http.ResponseWriter, r *http.Request) { io.WriteString(rw, "main") })
	mux.Handle("/readyz", w.Readiness())
	mux.HandleFunc("/slow", func(rw http.ResponseWriter, r *http.Request) {
		entered <- struct{}{}
		fmt.Println("entered")
		<-Leaving(r.Context())
		io.WriteString(rw, "slow")
	})
	mux.HandleFunc("/stuck", func(rw http.ResponseWriter, r *http.Request) {
		fmt.Println("entered")
		select {}
	})
	hung := Server(func(s *http.Server) {
		if how == "hung" {
			s.ConnContext = func(context.Context, net.Conn) context.Context {
				fmt.Println("entered")
				select {}
			}
		}
	})
	w.Handle("main", mux, hung, Address(os.Getenv("WORKER_TEST_ADDRESS")))
	if how == "two" {
		w.Handle("other", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { io.WriteString(rw, "other") }))
	}
	w.OnActive(func(ctx context.Context) {
		fmt.Println("active")
		<-ctx.Done()
		fmt.Println("inactive")
	})
	if err := w.Run(context.Background()); err != nil {
		fmt.Println("error:", err)
		return 1
	}
	fmt.Println("done")
	return 0
}

// process is such a child under test.
type process struct {
	*exec.Cmd
	t   *testing.T
	out *bufio.Scanner
}

// startChild runs the test binary as a worker, by a shell that may set what
// only the process itself knows (LISTEN_PID).
func startChild(t *testing.T, how, script string, files []*os.File, env ...string) *process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/bin/sh", "-c", script+` exec "$0"`, self)
	cmd.Env = append(os.Environ(), append(env, childEnv+"="+how)...)
	cmd.ExtraFiles = files // these sockets are of this test alone
	cmd.Stderr = os.Stderr
	if !testing.Verbose() {
		cmd.Stderr = nil
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{Cmd: cmd, t: t, out: bufio.NewScanner(out)}
	kill := time.AfterFunc(workertest.Patience, func() { cmd.Process.Kill() })
	t.Cleanup(func() { kill.Stop(); cmd.Process.Kill(); cmd.Wait() })
	return p
}

// says waits for a line.
func (p *process) says(line string) {
	p.t.Helper()
	for p.out.Scan() {
		if strings.HasPrefix(p.out.Text(), line) {
			return
		}
		p.t.Logf("child: %s", p.out.Text())
	}
	p.t.Fatalf("the child never said %q", line)
}

// end waits for the exit code.
func (p *process) end(code int) {
	p.t.Helper()
	p.Wait()
	if got := p.ProcessState.ExitCode(); got != code {
		p.t.Errorf("the child ended with %v, wanted code %d", p.ProcessState, code)
	}
}

func listenFile(t *testing.T) (string, *os.File) {
	t.Helper()
	ln, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	f, err := ln.File()
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	t.Cleanup(func() { f.Close() })
	return ln.Addr().String(), f
}

// freeAddress is one that nobody listens on now, below the ports that the kernel gives to
// clients: one of those could be taken before it is used.
func freeAddress(t *testing.T) string {
	t.Helper()
	const first, last, tries = 28000, 32000, 100 // below are those of test/service
	var err error
	for range tries {
		var ln net.Listener
		addr := fmt.Sprintf("127.0.0.1:%d", first+rand.IntN(last-first))
		if ln, err = net.Listen("tcp", addr); err == nil {
			ln.Close()
			return addr
		}
	}
	t.Fatal(err)
	return ""
}

func TestSocketActivation(t *testing.T) {
	t.Run("by name, told to systemd", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "notify")
		told, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		defer told.Close()
		told.SetDeadline(time.Now().Add(workertest.Patience))
		wantTold := func(want string) {
			t.Helper()
			buf := make([]byte, 100)
			n, err := told.Read(buf)
			if err != nil || string(buf[:n]) != want {
				t.Fatalf("systemd was told %q, %v; wanted %q", buf[:n], err, want)
			}
		}
		a, fa := listenFile(t)
		b, fb := listenFile(t)
		p := startChild(t, "two", "export LISTEN_PID=$$;", []*os.File{fa, fb},
			"LISTEN_FDS=2", "LISTEN_FDNAMES=other:main", "NOTIFY_SOCKET="+path, "WORKER_TEST_ADDRESS=127.0.0.1:1")
		p.says("active")
		wantTold("READY=1")
		other, main := workertest.Dial(t, a), workertest.Dial(t, b)
		other.Want(t, "/", "other", false)
		main.Want(t, "/", "main", false)
		p.Process.Signal(syscall.SIGTERM)
		p.says("inactive")
		wantTold("STOPPING=1")
		other.Want(t, "/", "other", true)
		main.Want(t, "/", "main", true)
		p.says("done")
		p.end(0)
	})
	t.Run("the only one", func(t *testing.T) {
		a, fa := listenFile(t)
		p := startChild(t, "one", "export LISTEN_PID=$$;", []*os.File{fa}, "LISTEN_FDS=1", "LISTEN_FDNAMES=unknown")
		p.says("active")
		workertest.Dial(t, a).Want(t, "/", "main", false)
		p.Process.Signal(syscall.SIGKILL)
		p.end(-1)
	})
	t.Run("of somebody else", func(t *testing.T) {
		a, fa := listenFile(t)
		own := freeAddress(t)
		p := startChild(t, "one", "", []*os.File{fa}, "LISTEN_PID=1", "LISTEN_FDS=1", "WORKER_TEST_ADDRESS=tcp://"+own)
		p.says("active")
		workertest.Dial(t, own).Want(t, "/", "main", false)
		_ = a
		p.Process.Signal(syscall.SIGKILL)
		p.end(-1)
	})
	t.Run("no socket", func(t *testing.T) {
		f, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		p := startChild(t, "one", "export LISTEN_PID=$$;", []*os.File{f}, "LISTEN_FDS=1")
		p.says("error: worker: socket activation: descriptor 3")
		p.end(1)
	})
}

func TestAloneDrainsBySignal(t *testing.T) {
	addr := freeAddress(t)
	p := startChild(t, "one", "", nil, "WORKER_TEST_ADDRESS="+addr)
	p.says("active")
	c := workertest.Dial(t, addr)
	if err := c.Write("GET", "/slow", ""); err != nil {
		t.Fatal(err)
	}
	p.says("entered")
	p.Process.Signal(syscall.SIGTERM)
	if got, closing, err := c.Read(); got != "slow" || !closing || err != nil {
		t.Errorf("the running request: %q %v %v", got, closing, err)
	}
	p.says("done")
	p.end(0)
}

// A second signal ends what does not end by itself.
func TestAloneSecondSignal(t *testing.T) {
	addr := freeAddress(t)
	p := startChild(t, "one", "", nil, "WORKER_TEST_ADDRESS="+addr)
	p.says("active")
	c := workertest.Dial(t, addr)
	if err := c.Write("GET", "/stuck", ""); err != nil {
		t.Fatal(err)
	}
	p.says("entered")
	p.Process.Signal(syscall.SIGTERM)
	p.says("inactive")
	p.Process.Signal(syscall.SIGINT)
	p.says("done")
	p.end(0)
}

func TestPortFromEnvironment(t *testing.T) {
	addr := freeAddress(t)
	_, port, _ := net.SplitHostPort(addr)
	w := workerWith(t, Options{}, map[string]string{"PORT": port})
	w.Handle("http", workertest.Pong)
	r := run(t, w)
	workertest.Eventually(t, "it serves", func() bool { return w.State() == StateActive })
	workertest.Dial(t, addr).Want(t, "/", "pong", false)
	r.core.Traffic.CloseAll()
	r.stop()
	if err := r.wait(); err != nil {
		t.Fatal(err)
	}
}

func TestUnixAddress(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	for range 2 {
		w := workerWith(t, Options{}, nil)
		w.Handle("http", workertest.Pong, Address("unix://"+path))
		r := run(t, w)
		workertest.Eventually(t, "it serves", func() bool { return w.State() == StateActive })
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		workertest.On(c).Want(t, "/", "pong", false)
		c.Close()
		r.stop()
		if err := r.wait(); err != nil {
			t.Fatal(err)
		}
		// What a killed process leaves behind is no obstacle to the next.
		ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		ln.SetUnlinkOnClose(false)
		ln.Close()
	}
}

func TestMistakes(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for name, c := range map[string]struct {
		env  map[string]string
		set  func(*Worker)
		want string
	}{
		"nothing":       {nil, func(w *Worker) {}, "nothing to do"},
		"no address":    {nil, func(w *Worker) { w.Handle("http", workertest.Pong) }, "worker.Address"},
		"twice":         {nil, func(w *Worker) { w.Handle("http", workertest.Pong); w.Handle("http", workertest.Pong) }, "twice"},
		"nil":           {nil, func(w *Worker) { w.Handle("http", nil) }, "nil"},
		"no name":       {nil, func(w *Worker) { w.Handle("", workertest.Pong) }, "name"},
		"taken":         {nil, func(w *Worker) { w.Handle("http", workertest.Pong, Address(taken.Addr().String())) }, "address already in use"},
		"no files":      {nil, func(w *Worker) { w.Handle("http", workertest.Pong, TLS("/none", "/none")) }, "TLS certificate"},
		"control alone": {map[string]string{"MASTERD_CONTROL": "/x"}, func(w *Worker) { w.Handle("http", workertest.Pong) }, "MASTERD_WORKER"},
		"no secret":     {map[string]string{"MASTERD_CONTROL": "/x", "MASTERD_WORKER": "1"}, func(w *Worker) { w.Handle("http", workertest.Pong) }, "MASTERD_SECRET"},
	} {
		t.Run(name, func(t *testing.T) {
			w := workerWith(t, Options{}, c.env)
			c.set(w)
			err := w.Run(context.Background())
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Run says %v; wanted %q in it", err, c.want)
			}
			if w.Run(context.Background()) == nil {
				t.Error("Run a second time says nothing")
			}
			noGoroutines(t)
		})
	}
}

func TestEnvironmentIsTaken(t *testing.T) {
	env := map[string]string{
		"MASTERD_CONTROL": "/c", "MASTERD_WORKER": "7", "MASTERD_SECRET": "s", "MASTERD_GENERATION": "3",
		"MASTERD_SERVICE": "shop", "MASTERD_VERSION": "v1",
		"LISTEN_FDS": "1", "LISTEN_PID": "1", "LISTEN_FDNAMES": "x", "LISTEN_PIDFDID": "9",
		"NOTIFY_SOCKET": "/n", "PORT": "80", "HOME": "/h",
	}
	workerWith(t, Options{}, env)
	if len(env) != 3 || env["NOTIFY_SOCKET"] == "" || env["PORT"] == "" || env["HOME"] == "" {
		t.Errorf("left in the environment: %v", env)
	}
}
