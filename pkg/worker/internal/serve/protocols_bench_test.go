package serve

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/masterd/masterd/pkg/worker/internal/migrate"
	"github.com/masterd/masterd/pkg/worker/internal/workertest"
)

// The same for what cannot move, with net/http's client on the other side, whose
// cost is in both:
//
//	go test -run - -bench Protocols -count 20 ./pkg/worker/internal/serve
func BenchmarkProtocols(b *testing.B) {
	hello := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") })
	cert, key := workertest.WriteCertificate(b, b.TempDir(), 1)
	for _, kind := range []struct {
		name       string
		secure, h2 bool
	}{
		{"tls-h1", true, false},
		{"tls-h2", true, true},
		{"h2c", false, true},
	} {
		ask := func(b *testing.B, of func(*net.TCPListener)) {
			ln, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
			if err != nil {
				b.Fatal(err)
			}
			defer ln.Close()
			go of(ln)
			p := new(http.Protocols)
			p.SetHTTP1(!kind.h2)
			p.SetHTTP2(kind.h2 && kind.secure)
			p.SetUnencryptedHTTP2(kind.h2 && !kind.secure)
			tr := &http.Transport{Protocols: p, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
			defer tr.CloseIdleConnections()
			url := "http://" + ln.Addr().String()
			if kind.secure {
				url = "https://" + ln.Addr().String()
			}
			b.ReportAllocs()
			begun := cpu(b)
			for b.Loop() {
				resp, err := tr.RoundTrip(must(http.NewRequest("GET", url, nil)))
				if err != nil {
					b.Fatal(err)
				}
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
			b.ReportMetric(float64(cpu(b)-begun)/float64(b.N), "cpu-ns/op")
		}
		open := func() *Config {
			l := &Config{Name: "http", Handler: hello, TLS: kind.secure, H2C: !kind.secure}
			if kind.secure {
				l.CertFile, l.KeyFile = cert, key
			}
			return l
		}
		b.Run(kind.name+"/plain", func(b *testing.B) {
			var certs *certificate
			if kind.secure {
				certs, _ = loadCertificate(cert, key, workertest.DiscardLog())
			}
			s := open().httpServer(certs, workertest.DiscardLog())
			s.Handler = hello
			ask(b, func(ln *net.TCPListener) {
				if kind.secure {
					s.Serve(tls.NewListener(ln, s.TLSConfig.Clone()))
				} else {
					s.Serve(ln)
				}
			})
			s.Close()
		})
		b.Run(kind.name+"/worker", func(b *testing.B) {
			t := NewTraffic()
			d, err := open().Open(t, migrate.NewSender(t.clients.migratable, t.Leaving.IsSet, workertest.DiscardLog()), workertest.DiscardLog())
			if err != nil {
				b.Fatal(err)
			}
			ask(b, func(ln *net.TCPListener) { d.Add(ln, false) })
			d.Close()
		})
	}
}

func must(r *http.Request, err error) *http.Request {
	if err != nil {
		panic(err)
	}
	return r
}
