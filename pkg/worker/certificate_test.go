package worker

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// writeCertificate writes a new self-signed pair with this serial number, each
// file replaced at once.
func writeCertificate(t testing.TB, dir string, serial int64) (cert, key string) {
	t.Helper()
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial),
		NotAfter:     time.Now().Add(time.Hour),
		DNSNames:     []string{"x"},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, priv.Public(), priv)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(priv)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for name, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(name+".new", pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(name+".new", name); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

func serial(t *testing.T, c *certificate) int64 {
	t.Helper()
	pair, err := c.get(nil)
	if err != nil {
		t.Fatal(err)
	}
	return pair.Leaf.SerialNumber.Int64()
}

func TestCertificateIsReadAgain(t *testing.T) {
	dir := t.TempDir()
	cert, key := writeCertificate(t, dir, 1)
	c, err := loadCertificate(cert, key, quietLog(t))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	c.now = func() time.Time { return now }
	writeCertificate(t, dir, 2)
	now = now.Add(certificateLook / 2)
	if got := serial(t, c); got != 1 {
		t.Errorf("serial %d: the files were looked at too early", got)
	}
	now = now.Add(certificateLook)
	if got := serial(t, c); got != 2 {
		t.Errorf("serial %d after a renewal", got)
	}
	if err := os.WriteFile(key, []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	now = now.Add(2 * certificateLook)
	if got := serial(t, c); got != 2 {
		t.Errorf("serial %d with a broken key", got)
	}
	os.Remove(cert)
	now = now.Add(2 * certificateLook)
	if got := serial(t, c); got != 2 {
		t.Errorf("serial %d without a certificate", got)
	}
	writeCertificate(t, dir, 3)
	now = now.Add(2 * certificateLook)
	if got := serial(t, c); got != 3 {
		t.Errorf("serial %d after the repair", got)
	}
}

// TLS speaks HTTP/1.1 and HTTP/2, and its answers part from clients like the rest.
func TestTLS(t *testing.T) {
	cert, key := writeCertificate(t, t.TempDir(), 1)
	for proto, next := range map[int]string{1: "http/1.1", 2: "h2"} {
		w, addr := alone(t, pong, TLS(cert, key))
		tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, NextProtos: []string{next}}, ForceAttemptHTTP2: proto == 2}
		get := func() *http.Response {
			t.Helper()
			resp, err := (&http.Client{Transport: tr, Timeout: patience}).Get("https://" + addr)
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
		eventually(t, "one is open", func() bool { return w.Stats().Open == 1 })
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
