package serve

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// certificateLook is the least time between two looks at the files.
const certificateLook = time.Second

// certificate is a pair of PEM files and what was last read from them. The
// files are looked at by the handshakes themselves: no goroutine, no watch that
// an atomic rename or a changed symbolic link would blind.
type certificate struct {
	certFile, keyFile string
	log               *slog.Logger
	now               func() time.Time

	pair atomic.Pointer[tls.Certificate]
	next atomic.Int64 // time of the next look, in Unix nanoseconds

	mu   sync.Mutex // one look at a time
	seen [2]os.FileInfo
}

// loadCertificate reads the pair for the first time; here an error counts.
func loadCertificate(certFile, keyFile string, log *slog.Logger) (*certificate, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile, log: log, now: time.Now}
	seen, err := c.look()
	if err == nil {
		err = c.load(seen)
	}
	if err != nil {
		return nil, fmt.Errorf("reading its TLS certificate: %w", err)
	}
	c.next.Store(c.now().Add(certificateLook).UnixNano())
	return c, nil
}

// get is tls.Config's GetCertificate.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if now := c.now(); now.UnixNano() >= c.next.Load() && c.mu.TryLock() {
		c.refresh()
		c.next.Store(now.Add(certificateLook).UnixNano())
		c.mu.Unlock()
	}
	return c.pair.Load(), nil
}

// refresh reads the pair again when a file has changed. Two files cannot be
// replaced in one step: a pair that does not match now is looked at again.
func (c *certificate) refresh() {
	seen, err := c.look()
	if err == nil && same(seen[0], c.seen[0]) && same(seen[1], c.seen[1]) {
		return
	}
	if err == nil {
		err = c.load(seen)
	}
	if err != nil {
		c.log.Warn("worker: the TLS certificate has changed and cannot be read; the last good one is served",
			"certificate", c.certFile, "key", c.keyFile, "error", err)
		return
	}
	c.log.Info("worker: the TLS certificate was read again", "certificate", c.certFile)
}

func (c *certificate) look() (seen [2]os.FileInfo, err error) {
	for i, name := range []string{c.certFile, c.keyFile} {
		if seen[i], err = os.Stat(name); err != nil {
			return seen, err
		}
	}
	return seen, nil
}

// same tells whether a file was neither replaced nor written.
func same(a, b os.FileInfo) bool {
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

func (c *certificate) load(seen [2]os.FileInfo) error {
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return err
	}
	c.pair.Store(&pair)
	c.seen = seen
	return nil
}
