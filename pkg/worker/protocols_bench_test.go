package worker

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"testing"
)

// The same for what cannot move, with net/http's client on the other side, whose
// cost is in both:
//
//	go test -run - -bench Protocols -count 20 ./pkg/worker
func BenchmarkProtocols(b *testing.B) {
	hello := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") })
	cert, key := writeCertificate(b, b.TempDir(), 1)
	for _, kind := range []struct {
		name       string
		secure, h2 bool
		opts       []ListenerOption
	}{
		{"tls-h1", true, false, []ListenerOption{TLS(cert, key)}},
		{"tls-h2", true, true, []ListenerOption{TLS(cert, key)}},
		{"h2c", false, true, []ListenerOption{H2C()}},
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
		open := func() *listener {
			l := &listener{name: "http", handler: hello}
			for _, opt := range kind.opts {
				opt(l)
			}
			return l
		}
		b.Run(kind.name+"/plain", func(b *testing.B) {
			var certs *certificate
			if kind.secure {
				certs, _ = loadCertificate(cert, key, discard())
			}
			s := open().server(certs, discard())
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
			t := newTraffic()
			d, err := open().open(t, newHandover(t.clients, discard()), discard())
			if err != nil {
				b.Fatal(err)
			}
			ask(b, func(ln *net.TCPListener) { d.add(ln, false) })
			d.close()
		})
	}
}

func must(r *http.Request, err error) *http.Request {
	if err != nil {
		panic(err)
	}
	return r
}
