package ginworker

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/masterd/masterd/pkg/worker"
)

const patience = 20 * time.Second

// serve runs a worker with this engine, and returns its address and how to end it.
func serve(t *testing.T, r *gin.Engine) (addr string, end func()) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr = ln.Addr().String()
	ln.Close()
	w := worker.New(worker.Options{IgnoreSignals: true, Log: slog.New(slog.DiscardHandler)})
	w.Handle("http", r, worker.Address(addr))
	active := make(chan struct{})
	w.OnActive(func(context.Context) { close(active) })
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- w.Run(ctx) }()
	select {
	case <-active:
	case err := <-done:
		t.Fatal(err)
	}
	return addr, func() {
		t.Helper()
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(patience):
			t.Errorf("Run has not returned; %+v", w.Stats())
		}
	}
}

func TestIdentify(t *testing.T) {
	r := New()
	if gin.Mode() != gin.ReleaseMode {
		t.Errorf("Gin is in %s mode", gin.Mode())
	}
	r.Use(Identify("v7"))
	r.GET("/ok", func(c *gin.Context) { c.String(200, "ok") })
	r.GET("/panic", func(c *gin.Context) { panic("on purpose") })
	gin.DefaultErrorWriter = io.Discard
	addr, end := serve(t, r)
	for path, status := range map[string]int{"/ok": 200, "/nowhere": 404} {
		resp, err := (&http.Client{Timeout: patience}).Get("http://" + addr + path)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if resp.StatusCode != status || resp.Header.Get(HeaderVersion) != "v7" || resp.Header.Get(HeaderPID) != strconv.Itoa(os.Getpid()) {
			t.Errorf("%s: status %d, headers %v", path, resp.StatusCode, resp.Header)
		}
	}
	http.DefaultClient.CloseIdleConnections()
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	end()
}

// A Gin stream ends politely: by the context itself, and by Leaving.
func TestLeaving(t *testing.T) {
	plain := gin.New() // without ContextWithFallback
	plain.GET("/s", stream(func(c *gin.Context) <-chan struct{} { return Leaving(c) }))
	ours := New()
	ours.GET("/s", stream(func(c *gin.Context) <-chan struct{} { return worker.Leaving(c) }))
	bare := gin.New()
	bare.GET("/s", stream(func(c *gin.Context) <-chan struct{} { return worker.Leaving(c) }))
	for name, r := range map[string]*gin.Engine{"gin.New": plain, "New": ours, "gin.New, by the worker package": bare} {
		addr, end := serve(t, r)
		tr := &http.Transport{}
		resp, err := (&http.Client{Timeout: patience, Transport: tr}).Get("http://" + addr + "/s")
		if err != nil {
			t.Fatal(err)
		}
		read := make(chan string, 1)
		go func() {
			b, _ := io.ReadAll(resp.Body)
			tr.CloseIdleConnections()
			read <- string(b)
		}()
		end()
		if got := <-read; got != "hello bye" {
			t.Errorf("%s: %q", name, got)
		}
		resp.Body.Close()
	}
}

func stream(leaving func(*gin.Context) <-chan struct{}) gin.HandlerFunc {
	return func(c *gin.Context) {
		said := false
		c.Stream(func(w io.Writer) bool { // needs http.CloseNotifier of the writer
			if !said {
				said = true
				io.WriteString(w, "hello ")
				return true
			}
			<-leaving(c)
			io.WriteString(w, "bye")
			return false
		})
	}
}

// A handler that has hijacked its connection and has returned: the notice comes to what it has
// left behind, by the context itself and by AfterLeaving, in any engine.
func TestAfterLeavingOutlivesTheHandler(t *testing.T) {
	gin.SetMode(gin.ReleaseMode)
	for name, after := range map[string]func(c *gin.Context, f func()) (stop func() bool){
		"ginworker.AfterLeaving": AfterLeaving,
		"worker.AfterLeaving":    func(c *gin.Context, f func()) func() bool { return worker.AfterLeaving(c, f) },
		"worker.LeavingContext": func(c *gin.Context, f func()) func() bool {
			ctx, _ := worker.LeavingContext(context.WithoutCancel(c.Request.Context()))
			return context.AfterFunc(ctx, f)
		},
		"a context around it": func(c *gin.Context, f func()) func() bool { return worker.AfterLeaving(around{c}, f) },
	} {
		for _, r := range []*gin.Engine{gin.New(), New()} {
			r.GET("/s", func(c *gin.Context) {
				conn, _, err := c.Writer.Hijack()
				if err != nil {
					t.Error(err)
					return
				}
				after(c, func() {
					io.WriteString(conn, "bye")
					conn.Close()
				})
				ended := c.Request.Context().Done()
				go func() {
					<-ended
					io.WriteString(conn, "hello ")
				}()
			})
			addr, end := serve(t, r)
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			conn.SetDeadline(time.Now().Add(patience))
			io.WriteString(conn, "GET /s HTTP/1.1\r\nHost: x\r\n\r\n")
			hello := make([]byte, len("hello "))
			if _, err := io.ReadFull(conn, hello); err != nil {
				t.Fatalf("%s: %q, %v", name, hello, err)
			}
			end()
			if b, err := io.ReadAll(conn); string(b) != "bye" {
				t.Errorf("%s: %q, %v", name, b, err)
			}
			conn.Close()
		}
	}
}

// around is how programs make a context of their own of Gin's.
type around struct{ *gin.Context }
