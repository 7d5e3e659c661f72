package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/test/load"
	"github.com/masterd/masterd/test/service"
	"github.com/masterd/masterd/test/service/servicetest"
)

// Connections that cannot move: TLS with HTTP/1 and HTTP/2, and HTTP/2 without
// TLS. They leave in their protocols' polite ways, and no upload that cannot be
// sent again is lost.
func TestReloadsOverTLSAndHTTP2(t *testing.T) {
	besideOthers(t)
	var https string
	s := started(t, func(c service.Config) {
		var err error
		if https, err = service.FreePort(); err != nil {
			t.Fatal(err)
		}
		cert, key := writeCertificate(t)
		c.Set("listeners", append(c["listeners"].([]any), map[string]any{"name": "https", "address": "tcp://" + https})).
			Set("worker.env.DEMO_H2C", "1").Set("worker.env.DEMO_CERT", cert).Set("worker.env.DEMO_KEY", key)
	})
	const body = 30_000
	sum := sha256.Sum256(load.Body(body))
	whole := func(answer []byte) error {
		if !strings.Contains(string(answer), hex.EncodeToString(sum[:])) {
			return fmt.Errorf("the answer is %.200q", answer)
		}
		return nil
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()

	h1 := load.Start(ctx, load.Plan{Addr: https, TLS: &tls.Config{InsecureSkipVerify: true}, Rate: quietRate(), Kept: 8, Fresh: 2, Path: "/upload", Body: body,
		Check: func(status int, _ load.Header, answer []byte) error {
			if status != 200 {
				return fmt.Errorf("status %d", status)
			}
			return whole(answer)
		}})
	plan := load.HTTP2{Addr: s.Addr, Clients: 4, Streams: 3, Path: "/upload", Body: body, Pause: 20 * time.Millisecond, Check: whole}
	h2, h2c := make(chan load.HTTP2Result, 1), make(chan load.HTTP2Result, 1)
	go func() { h2c <- plan.Run(ctx) }()
	go func() {
		plan := plan
		plan.Addr, plan.TLS = https, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}
		h2 <- plan.Run(ctx)
	}()

	n := times(100, 4)
	for i := 2; i <= n+1; i++ {
		s.Config.Set("worker.env.RELEASE", label(i))
		if out := reload(t, s, api.ReloadRequest{Label: label(i), Until: "baked"}); out.Result != api.ResultDone {
			t.Fatalf("reload %d: %+v", i, out)
		}
	}
	stop()
	if res := h1.Wait(); res.Failed() != 0 || res.Requests == 0 {
		t.Errorf("TLS, HTTP/1: %s", res)
	} else {
		t.Logf("TLS, HTTP/1: %d requests on %d connections, 0 failed, over %d reloads", res.Requests, res.Connections, n)
	}
	for name, result := range map[string]chan load.HTTP2Result{"TLS, HTTP/2": h2, "HTTP/2 by prior knowledge": h2c} {
		res := <-result
		t.Logf("%s: %d uploads on %d connections, %d failed, over %d reloads; %d warned", name, res.Uploads, res.Connections, res.Failed, n, res.Warned)
		if res.Failed != 0 || res.Uploads == 0 || res.Warned == 0 {
			t.Errorf("%s: %+v", name, res)
		}
	}
}

// writeCertificate makes a pair of PEM files that the worker can read.
func writeCertificate(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := servicetest.ShortDir(t)
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	if err := errors.Join(
		os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644),
		os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), 0o644),
	); err != nil {
		t.Fatal(err)
	}
	return cert, key
}
