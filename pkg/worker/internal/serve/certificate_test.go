package serve

import (
	"os"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/worker/internal/workertest"
)

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
	cert, key := workertest.WriteCertificate(t, dir, 1)
	c, err := loadCertificate(cert, key, workertest.QuietLog(t))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	c.now = func() time.Time { return now }
	workertest.WriteCertificate(t, dir, 2)
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
	workertest.WriteCertificate(t, dir, 3)
	now = now.Add(2 * certificateLook)
	if got := serial(t, c); got != 3 {
		t.Errorf("serial %d after the repair", got)
	}
}
