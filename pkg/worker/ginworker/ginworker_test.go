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
	for name, r := range map[string]*gin.Engine{"gin.New": plain, "New": ours} {
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
