package serve

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/worker/internal/migrate"
	"github.com/masterd/masterd/pkg/worker/internal/workertest"
)

// What the SDK costs, against net/http with the same settings. Compare cpu-ns/op,
// which does not depend on who else uses the machine:
//
//	go test -run - -bench Request -count 20 ./pkg/worker/internal/serve
func BenchmarkRequest(b *testing.B) {
	hello := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") })
	serve := func(b *testing.B, of func(net.Listener)) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		defer ln.Close()
		go of(ln)
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			b.Fatal(err)
		}
		defer c.Close()
		br := bufio.NewReader(c)
		request := []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		answer := make([]byte, 1024)
		b.ReportAllocs()
		b.ResetTimer()
		begun := cpu(b)
		for b.Loop() {
			if _, err := c.Write(request); err != nil {
				b.Fatal(err)
			}
			if _, err := br.Read(answer); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(cpu(b)-begun)/float64(b.N), "cpu-ns/op")
	}
	// Both kinds twice, in turn: a machine that gets slower shows.
	for _, round := range []string{"1", "2"} {
		b.Run("plain/"+round, func(b *testing.B) {
			s := &http.Server{Handler: hello, ReadHeaderTimeout: readHeaderTimeout, IdleTimeout: idleTimeout}
			serve(b, func(ln net.Listener) { s.Serve(ln) })
			s.Close()
		})
		b.Run("worker/"+round, func(b *testing.B) {
			t := NewTraffic()
			l := &Config{Name: "http", Handler: hello}
			d, err := l.Open(t, migrate.NewSender(t.clients.migratable, t.Leaving.IsSet, workertest.DiscardLog()), workertest.DiscardLog())
			if err != nil {
				b.Fatal(err)
			}
			serve(b, func(ln net.Listener) { d.Add(ln.(Socket), false) })
			d.Close()
		})
	}
}

func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
