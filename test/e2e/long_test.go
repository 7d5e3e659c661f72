package e2e

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/masterd/masterd/test/load"
)

// An upload and an answer that take longer than several reloads arrive whole,
// and their connections are used on.
func TestLongTransfersOutliveReloads(t *testing.T) {
	besideOthers(t)
	const rate = 2_000_000 // bytes a second of the upload
	size, spread := times(200_000_000, 6_000_000), time.Duration(times(30, 3))*time.Second
	s := started(t, nil)
	next(t, s, 1, "baked")
	clients := [2]*idle{}
	for i := range clients {
		conn, err := net.DialTimeout("tcp", s.Addr, patience)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		clients[i] = &idle{conn, bufio.NewReader(conn)}
	}
	ended, reloaded := make(chan error, 2), make(chan struct{})
	go func() { ended <- upload(clients[0], size, rate, reloaded) }()
	go func() { ended <- download(clients[1], 30_000_000, spread, reloaded) }()
	defer func() { // on every way out
		if reloaded != nil {
			close(reloaded)
		}
	}()

	n := times(5, 2)
	for i := 2; i <= n+1; i++ {
		time.Sleep(spread / time.Duration(n+1)) // both run through all of the reloads
		next(t, s, i, "baked")
	}
	if len(ended) > 0 {
		t.Fatalf("a transfer was over before the last reload: %v", <-ended)
	}
	close(reloaded)
	reloaded = nil
	for range clients {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	for _, c := range clients {
		eventually(t, "the connection to be the new version's", func() bool { return c.ask(label(n+1)) == nil })
	}
	t.Logf("%d reloads: %d bytes up at %d a second, 30000000 bytes down in %s, both whole and bit for bit", n, size, rate, spread)
}

// upload sends size bytes at a rate, the last of them after last is closed, and
// compares the hash that comes back.
func upload(c *idle, size, rate int, last <-chan struct{}) error {
	const perSecond = 20
	body := load.Body(size)
	fmt.Fprintf(c.conn, "POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", size)
	tick := time.NewTicker(time.Second / perSecond)
	defer tick.Stop()
	for rest := body; len(rest) > 0; <-tick.C {
		piece := rest[:min(len(rest), rate/perSecond)]
		if len(piece) == len(rest) {
			<-last
		}
		if _, err := c.conn.Write(piece); err != nil {
			return fmt.Errorf("the upload broke with %d bytes to go: %w", len(rest), err)
		}
		rest = rest[len(piece):]
	}
	res, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return fmt.Errorf("the upload's answer: %w", err)
	}
	defer res.Body.Close()
	var got struct {
		Size   int
		SHA256 string
	}
	if err := json.NewDecoder(res.Body).Decode(&got); err != nil {
		return fmt.Errorf("the upload's answer, status %d: %w", res.StatusCode, err)
	}
	_, _ = io.Copy(io.Discard, res.Body)
	if sum := sha256.Sum256(body); got.Size != size || got.SHA256 != hex.EncodeToString(sum[:]) || res.Close {
		return fmt.Errorf("%d bytes with hash %s arrived, Connection: close %v", got.Size, got.SHA256, res.Close)
	}
	return nil
}

// download takes an answer that the worker spreads over a time: half of it, and the
// rest after last is closed.
func download(c *idle, size int, spread time.Duration, last <-chan struct{}) error {
	fmt.Fprintf(c.conn, "GET /drip?n=%d&d=%s HTTP/1.1\r\nHost: x\r\n\r\n", size, spread)
	res, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return fmt.Errorf("the download: %w", err)
	}
	defer res.Body.Close()
	got := make([]byte, size/2)
	n, err := io.ReadFull(res.Body, got)
	if err == nil {
		<-last
		var rest []byte
		rest, err = io.ReadAll(res.Body)
		got, n = append(got, rest...), n+len(rest)
	}
	if got = got[:n]; err != nil || res.StatusCode != http.StatusOK {
		return fmt.Errorf("the download broke after %d bytes, status %d: %w", len(got), res.StatusCode, err)
	}
	var want bytes.Buffer
	for line := 0; want.Len() < size; line++ {
		fmt.Fprintf(&want, "%015d\n", line)
	}
	if !bytes.Equal(got, want.Bytes()[:size]) {
		return errors.New("the download is not what was sent")
	}
	return nil
}
