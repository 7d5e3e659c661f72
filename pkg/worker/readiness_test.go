package worker

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/worker/internal/workertest"
)

// readyz is what a load balancer is told.
func readyz(w *Worker) (code int, text string) {
	rec := httptest.NewRecorder()
	w.Readiness().ServeHTTP(rec, httptest.NewRequest("GET", "/readyz", nil))
	return rec.Code, strings.TrimSpace(rec.Body.String())
}

func wantReady(t *testing.T, w *Worker, want int, text string) {
	t.Helper()
	if code, got := readyz(w); code != want || got != text {
		t.Errorf("while %s: %d %q, wanted %d %q", w.State(), code, got, want, text)
	}
}

func TestReadinessOfHead(t *testing.T) {
	w := workerWith(t, Options{}, nil)
	rec := httptest.NewRecorder()
	w.Readiness().ServeHTTP(rec, httptest.NewRequest("HEAD", "/readyz", nil))
	if rec.Code != 503 || rec.Body.Len() != 0 || rec.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("%d %q %v", rec.Code, rec.Body, rec.Header())
	}
}

// notified is a socket as systemd has it.
type notified struct {
	*net.UnixConn
	path string
}

func listenNotify(t *testing.T) *notified {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(workertest.Patience))
	return &notified{c, path}
}

func (n *notified) want(t *testing.T, want string) {
	t.Helper()
	buf := make([]byte, 200)
	got, err := n.Read(buf)
	if err != nil || string(buf[:got]) != want {
		t.Fatalf("systemd was told %q, %v; wanted %q", buf[:got], err, want)
	}
}

// nothing more was told; only after the process has ended.
func (n *notified) nothing(t *testing.T) {
	t.Helper()
	n.SetDeadline(time.Now().Add(time.Millisecond))
	buf := make([]byte, 200)
	if got, err := n.Read(buf); err == nil {
		t.Errorf("systemd was also told %q", buf[:got])
	}
}

// Without a master a TERM is announced first: readiness says 503, everything
// else goes on in full, and systemd knows at once. Then it drains, by itself or
// because somebody does not want to wait.
func TestAloneAnnounces(t *testing.T) {
	for name, x := range map[string]struct {
		announce time.Duration
		again    bool
	}{
		"and drains then":           {2 * time.Second, false},
		"until it is asked again":   {time.Hour, true},
		"and is asked by INT again": {time.Hour, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			told := listenNotify(t)
			addr := freeAddress(t)
			p := startChild(t, "one", "", nil, "WORKER_TEST_ADDRESS="+addr, "NOTIFY_SOCKET="+told.path, fmt.Sprint("WORKER_TEST_ANNOUNCE=", x.announce))
			p.says("active")
			told.want(t, "READY=1")
			kept := workertest.Dial(t, addr)
			kept.Want(t, "/readyz", "ready\n", false)
			begun := time.Now()
			p.Process.Signal(syscall.SIGTERM)
			told.want(t, fmt.Sprintf("STOPPING=1\nEXTEND_TIMEOUT_USEC=%d", (x.announce+time.Minute+2*time.Second).Microseconds()))
			fresh := workertest.Dial(t, addr)
			if _, closing, err := fresh.Do("GET", "/readyz", ""); err == nil || !strings.Contains(err.Error(), "status 503: stopping") || closing {
				t.Errorf("readiness: %v, closing %v", err, closing)
			}
			if time.Since(begun) < x.announce { // else the machine is too slow to see it
				fresh.Want(t, "/", "main", false)
				kept.Want(t, "/", "main", false)
			}
			fresh.Conn.Close()
			if x.again {
				sig := syscall.SIGTERM
				if strings.Contains(name, "INT") {
					sig = syscall.SIGINT
				}
				p.Process.Signal(sig)
			}
			p.says("inactive")
			if took := time.Since(begun); !x.again && took < x.announce {
				t.Errorf("it drains after %s", took)
			}
			if _, closing, err := kept.Do("GET", "/", ""); err != nil || !closing {
				t.Errorf("while it drains: closing %v, %v", closing, err)
			}
			kept.WantEnd(t)
			p.says("done")
			p.end(0)
			told.nothing(t)
		})
	}
}

// The end of Run's context is announced too, and a worker that serves nobody yet
// does not keep anybody waiting.
func TestAloneAnnouncesTheEndOfItsContext(t *testing.T) {
	w := workerWith(t, Options{Announce: 50 * time.Millisecond}, nil)
	w.Handle("http", workertest.Pong, Address("127.0.0.1:0"))
	r := run(t, w)
	workertest.Eventually(t, "it serves", func() bool { return w.State() == StateActive })
	begun := time.Now()
	r.stop()
	workertest.Eventually(t, "it says so", func() bool { code, _ := readyz(w); return code == 503 })
	if err := r.wait(); err != nil || time.Since(begun) < 50*time.Millisecond {
		t.Errorf("%v after %s", err, time.Since(begun))
	}
	early := workerWith(t, Options{Announce: time.Hour}, nil)
	early.Handle("http", http.NotFoundHandler(), Address("127.0.0.1:0"))
	hang := make(chan struct{})
	early.BeforeReady(func(ctx context.Context) error { close(hang); <-ctx.Done(); return ctx.Err() })
	r = run(t, early)
	<-hang
	r.stop()
	if err := r.wait(); err != nil {
		t.Error(err)
	}
}
