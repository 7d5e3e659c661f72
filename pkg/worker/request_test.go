package worker

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/worker/internal/workertest"
)

// alone serves h on a free port.
func alone(t *testing.T, h http.Handler, opts ...ListenerOption) (*running, string) {
	t.Helper()
	addr := freeAddress(t)
	w := workerWith(t, Options{}, nil)
	w.Handle("http", h, append(opts, Address(addr))...)
	r := run(t, w)
	workertest.Eventually(t, "it serves", func() bool { return w.State() == StateActive })
	return r, addr
}

// The writer that handlers get can do all that net/http's can.
func TestWriterKeepsItsAbilities(t *testing.T) {
	checked := make(chan error, 1)
	_, addr := alone(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		checked <- func() error {
			if _, ok := w.(io.ReaderFrom); !ok {
				return fmt.Errorf("no io.ReaderFrom in %T: no sendfile", w)
			}
			if _, ok := w.(http.Hijacker); !ok {
				return fmt.Errorf("no http.Hijacker in %T", w)
			}
			//lint:ignore SA1019 Gin asserts it
			if _, ok := w.(http.CloseNotifier); !ok {
				return fmt.Errorf("no http.CloseNotifier in %T", w)
			}
			rc := http.NewResponseController(w)
			if err := rc.SetWriteDeadline(time.Now().Add(time.Minute)); err != nil {
				return err
			}
			if err := rc.EnableFullDuplex(); err != nil {
				return err
			}
			return rc.Flush()
		}()
	}))
	workertest.Dial(t, addr).Want(t, "/", "", false)
	if err := <-checked; err != nil {
		t.Error(err)
	}
}

// So can that for HTTP/2, with and without TLS.
func TestWriterOfHTTP2KeepsItsAbilities(t *testing.T) {
	cert, key := workertest.WriteCertificate(t, t.TempDir(), 1)
	for name, how := range map[string]ListenerOption{"h2c": H2C(), "TLS": TLS(cert, key)} {
		checked := make(chan error, 1)
		_, addr := alone(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			checked <- func() error {
				if _, ok := w.(http.Pusher); !ok || r.ProtoMajor != 2 {
					return fmt.Errorf("%s, and no http.Pusher in %T", r.Proto, w)
				}
				//lint:ignore SA1019 Gin asserts it
				if _, ok := w.(http.CloseNotifier); !ok {
					return fmt.Errorf("no http.CloseNotifier in %T", w)
				}
				if _, ok := w.(io.StringWriter); !ok {
					return fmt.Errorf("no io.StringWriter in %T", w)
				}
				rc := http.NewResponseController(w)
				return errors.Join(rc.SetReadDeadline(time.Time{}), rc.SetWriteDeadline(time.Now().Add(time.Minute)),
					rc.EnableFullDuplex(), rc.Flush())
			}()
		}), how)
		tr := &http.Transport{Protocols: new(http.Protocols), TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
		tr.Protocols.SetUnencryptedHTTP2(name == "h2c")
		tr.Protocols.SetHTTP2(name == "TLS")
		url := map[string]string{"h2c": "http://", "TLS": "https://"}[name] + addr
		resp, err := (&http.Client{Transport: tr, Timeout: workertest.Patience}).Get(url)
		if err != nil {
			t.Fatal(name, err)
		}
		io.Copy(io.Discard, resp.Body) // to its end: a stream that the client resets cannot be flushed
		resp.Body.Close()
		if err := <-checked; err != nil {
			t.Errorf("%s: %v", name, err)
		}
		tr.CloseIdleConnections()
	}
}

// A file goes out by sendfile(2): the connection below net/http must keep
// *net.TCPConn's ReadFrom.
func TestSendfile(t *testing.T) {
	const size = 64 << 20
	file := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, size); err != nil {
		t.Fatal(err)
	}
	_, addr := alone(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, file) }))
	before := writes(t)
	c := workertest.Dial(t, addr)
	if err := c.Write("GET", "/", ""); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(c.Reader, nil)
	if err != nil {
		t.Fatal(err)
	}
	n, err := io.Copy(io.Discard, resp.Body)
	if err != nil || n != size {
		t.Fatalf("%d bytes, %v", n, err)
	}
	// Measured: 9. Copied in pieces of 32 KiB it would be 2,048.
	if made := writes(t) - before; made > size/(32<<10)/4 {
		t.Errorf("%d MiB went out with %d writes", size>>20, made)
	}
}

// writes is how many write calls this process has made; sendfile's are one for
// each piece that the socket took.
func writes(t *testing.T) (n int) {
	b, err := os.ReadFile("/proc/self/io")
	if err != nil {
		t.Skip(err) // no such thing outside Linux
	}
	for line := range strings.Lines(string(b)) {
		if _, err := fmt.Sscanf(line, "syscw: %d", &n); err == nil {
			return n
		}
	}
	t.Skip("the kernel does not count writes")
	return 0
}

// A connection that a handler took over is open until it is closed, once, and
// its handler can be told to leave.
func TestHijackedIsCounted(t *testing.T) {
	w, addr := alone(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		leaving := Leaving(r.Context())
		c, brw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		brw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
		brw.Flush()
		go func() {
			<-leaving
			io.WriteString(c, "bye\n")
			c.Close()
			c.Close()
		}()
	}))
	c := workertest.Dial(t, addr)
	c.Write("GET", "/", "")
	if resp, err := http.ReadResponse(c.Reader, nil); err != nil || resp.StatusCode != 101 {
		t.Fatal(resp, err)
	}
	workertest.Eventually(t, "the handler has returned", func() bool { return w.Stats().InFlight == 0 })
	if n := w.Stats().Open; n != 1 {
		t.Fatalf("%d open", n)
	}
	w.stop()
	if line, err := c.Reader.ReadString('\n'); line != "bye\n" {
		t.Fatalf("%q, %v", line, err)
	}
	if err := w.wait(); err != nil {
		t.Fatal(err)
	}
	if n := w.Stats().Open; n != 0 {
		t.Errorf("%d open at the end", n)
	}
}

// A request whose client has gone still runs: the drain waits for it.
func TestDrainWaitsForHandlersWithoutClient(t *testing.T) {
	entered, goOn := make(chan struct{}), make(chan struct{})
	finished := false
	w, addr := alone(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		entered <- struct{}{}
		<-goOn
		finished = true
	}))
	c := workertest.Dial(t, addr)
	c.Write("GET", "/", "")
	workertest.Comes(t, entered)
	c.Conn.(*net.TCPConn).SetLinger(0)
	c.Conn.Close()
	w.stop()
	w.leaves()
	close(goOn)
	w.wait()
	if !finished {
		t.Error("Run returned before the handler")
	}
}

// Panics count down too.
func TestPanicsAreCounted(t *testing.T) {
	w, addr := alone(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) }))
	c := workertest.Dial(t, addr)
	if _, _, err := c.Do("GET", "/", ""); err == nil {
		t.Fatal("answered")
	}
	workertest.Eventually(t, "nothing is counted any more", func() bool { s := w.Stats(); return s.InFlight == 0 && s.Open == 0 })
}

func TestLeavingElsewhere(t *testing.T) {
	if Leaving(httptest.NewRequest("GET", "/", nil).Context()) != nil {
		t.Error("a context that is not ours has a notice")
	}
}

// Event streams end themselves, and their connections with them.
func TestLeavingEndsStreams(t *testing.T) {
	w, addr := alone(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "data: 1\n\n")
		w.(http.Flusher).Flush()
		<-Leaving(r.Context())
		io.WriteString(w, "data: bye\n\n")
	}))
	c := workertest.Dial(t, addr)
	c.Write("GET", "/", "")
	resp, err := http.ReadResponse(c.Reader, nil)
	if err != nil {
		t.Fatal(err)
	}
	body := bufio.NewReader(resp.Body)
	if line, err := body.ReadString('\n'); line != "data: 1\n" {
		t.Fatal(line, err)
	}
	w.stop()
	if rest, err := io.ReadAll(body); err != nil || !strings.Contains(string(rest), "bye") {
		t.Fatalf("%q, %v", rest, err)
	}
	c.Conn.Close()
	w.wait()
}
