package worker

import (
	"crypto/tls"
	"io"
	"net/http"
	"testing"

	"github.com/masterd/masterd/pkg/worker/internal/workertest"
)

// TLS speaks HTTP/1.1 and HTTP/2, and its answers part from clients like the rest.
func TestTLS(t *testing.T) {
	cert, key := workertest.WriteCertificate(t, t.TempDir(), 1)
	for proto, next := range map[int]string{1: "http/1.1", 2: "h2"} {
		w, addr := alone(t, workertest.Pong, TLS(cert, key))
		tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, NextProtos: []string{next}}, ForceAttemptHTTP2: proto == 2}
		get := func() *http.Response {
			t.Helper()
			resp, err := (&http.Client{Transport: tr, Timeout: workertest.Patience}).Get("https://" + addr)
			if err != nil {
				t.Fatal(err)
			}
			io.Copy(io.Discard, resp.Body) // else the connection is not used again
			resp.Body.Close()
			return resp
		}
		if resp := get(); resp.ProtoMajor != proto {
			t.Errorf("got %s, wanted major version %d", resp.Proto, proto)
		}
		workertest.Eventually(t, "one is open", func() bool { return w.Stats().Open == 1 })
		w.stop()
		w.leaves()
		resp := get() // on the kept connection: there is no listener any more
		if proto == 1 && !resp.Close {
			t.Error("the answer does not say close")
		}
		if err := w.wait(); err != nil {
			t.Fatal(err)
		}
		if n := w.Stats(); n.Cut != 0 || n.Requests != 2 {
			t.Errorf("HTTP/%d: %+v", proto, n)
		}
		tr.CloseIdleConnections()
	}
}
