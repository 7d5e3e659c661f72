// Package workertest has what tests of the SDK and of its packages share: a strict client,
// and waits that end.
package workertest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"
)

// Patience bounds every wait of a test; none is ever waited out when all is well.
const Patience = 20 * time.Second

// DiscardLog is a log of which nothing is seen.
func DiscardLog() *slog.Logger { return slog.New(slog.DiscardHandler) }

// QuietLog is a log that is seen with -v.
func QuietLog(t *testing.T) *slog.Logger {
	out := io.Discard
	if testing.Verbose() {
		out = logWriter{t}
	}
	return slog.New(slog.NewTextHandler(out, nil))
}

type logWriter struct{ t *testing.T }

func (w logWriter) Write(line []byte) (int, error) {
	w.t.Logf("%s", bytes.TrimSuffix(line, []byte("\n")))
	return len(line), nil
}

// Comes waits for what a channel brings.
func Comes[T any](t *testing.T, from <-chan T) (got T) {
	t.Helper()
	select {
	case got = <-from:
	case <-time.After(Patience):
		t.Fatalf("nothing has come after %v\n%s", Patience, Stacks())
	}
	return got
}

// Eventually waits for a fact that nothing announces.
func Eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	end := time.Now().Add(Patience)
	for !is() {
		if time.Now().After(end) {
			t.Fatalf("not so after %v: %s\n%s", Patience, what, Stacks())
		}
		time.Sleep(time.Millisecond)
	}
}

// Stacks are the stacks of all goroutines.
func Stacks() string {
	buf := make([]byte, 1<<20)
	return string(buf[:runtime.Stack(buf, true)])
}

// Pong reads the request and answers "pong".
var Pong = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body)
	io.WriteString(w, "pong")
})

// WriteCertificate writes a new self-signed pair with this serial number, each
// file replaced at once.
func WriteCertificate(t testing.TB, dir string, serial int64) (cert, key string) {
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
	for name, block := range map[string]*pem.Block{
		cert: {Type: "CERTIFICATE", Bytes: der},
		key:  {Type: "PRIVATE KEY", Bytes: keyDER},
	} {
		if err := os.WriteFile(name+".new", pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(name+".new", name); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}
