// Command h2spec holds a worker's HTTP/2 against the specification twice, by
// prior knowledge and over TLS: while nothing else happens, and during a loop of
// reloads. What the reloads change in any verdict is an error.
package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/summerwind/h2spec/config"
	"github.com/summerwind/h2spec/generic"
	"github.com/summerwind/h2spec/hpack"
	"github.com/summerwind/h2spec/http2"
	"github.com/summerwind/h2spec/spec"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/worker"
	"github.com/masterd/masterd/test/service"
)

var (
	programs = flag.String("programs", "../../bin", "directory with masterd")
	asWorker = flag.Bool("worker", false, "be the worker, with CERT and KEY in the environment")
	rounds   = flag.Int("rounds", 3, "times that all cases are tried during reloads, and before without any")
)

// answerTime is how long an answer takes at least: whether an error in a request
// is seen before it is answered does not depend on who is quicker, then.
const answerTime = 50 * time.Millisecond

const caseTimeout = 2 * time.Second // for an answer that a case waits for; h2spec's own default

func main() {
	flag.Parse()
	do := run
	if *asWorker {
		do = work
	}
	if err := do(); err != nil {
		fmt.Fprintln(os.Stderr, "h2spec:", err)
		os.Exit(1)
	}
}

// work serves what reads a request to its end before it answers.
func work() error {
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/healthz" {
			io.Copy(io.Discard, r.Body)
			time.Sleep(answerTime)
		}
		io.WriteString(w, "an answer of some bytes\n")
	})
	w := worker.New(worker.Options{})
	w.Handle("http", h, worker.H2C())
	w.Handle("https", h, worker.TLS(os.Getenv("CERT"), os.Getenv("KEY")))
	return w.Run(context.Background())
}

func run() (err error) {
	dir, err := os.MkdirTemp("", "h2spec-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	built, err := filepath.Abs(*programs)
	if err != nil {
		return err
	}
	s, err := service.New(service.Built(built), dir)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	https, err := service.FreePort()
	if err != nil {
		return err
	}
	cert, key, err := certificate(dir)
	if err != nil {
		return err
	}
	s.Config.Set("listeners", append(s.Config["listeners"].([]any), map[string]any{"name": "https", "address": "tcp://" + https})).
		Set("worker.command", []string{self, "-worker"}).Set("worker.env.CERT", cert).Set("worker.env.KEY", key)
	ctx := context.Background()
	if err := s.Start(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Stop()) }()

	// A few cases depend on who is quicker, whatever else happens: what they came
	// to without reloads is a set.
	calm := map[string][]string{}
	for range *rounds {
		got := verdicts(s.Addr, https)
		fmt.Printf("without reloads: %s\n", count(got))
		for id, v := range got {
			if !slices.Contains(calm[id], v.word) {
				calm[id] = append(calm[id], v.word)
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(calm)) {
		if len(calm[id]) > 1 {
			fmt.Printf("not the same each time, without reloads: %s: %s\n", id, strings.Join(calm[id], " or "))
		}
	}
	var differ []string
	for range *rounds {
		reloads := startReloads(ctx, s)
		busy := verdicts(s.Addr, https)
		n, err := reloads()
		if err != nil {
			return err
		}
		fmt.Printf("during %d reloads: %s\n", n, count(busy))
		for _, id := range slices.Sorted(maps.Keys(calm)) {
			if !slices.Contains(calm[id], busy[id].word) {
				differ = append(differ, fmt.Sprintf("%s: %s without reloads, %s during them (%v)", id, strings.Join(calm[id], " or "), busy[id].word, busy[id].err))
			}
		}
	}
	for _, d := range differ {
		fmt.Println(d)
	}
	if len(differ) > 0 {
		return fmt.Errorf("%d verdicts differ", len(differ))
	}
	return nil
}

// startReloads reloads again and again until what it returns is called.
func startReloads(ctx context.Context, s *service.Service) (stop func() (int, error)) {
	ctx, cancel := context.WithCancel(ctx)
	var n int
	var failed error
	var loop sync.WaitGroup
	loop.Go(func() {
		for ctx.Err() == nil && failed == nil {
			label := fmt.Sprint(time.Now().UnixNano())
			s.Config.Set("worker.env.RELEASE", label)
			if failed = s.Write(); failed != nil {
				return
			}
			out, err := s.API.Reload(context.WithoutCancel(ctx), api.ReloadRequest{Label: label, Until: "baked"}, nil)
			if err != nil || out.Result != api.ResultDone {
				failed = fmt.Errorf("reload %d: %+v: %v", n+1, out, err)
			}
			n++
		}
	})
	return func() (int, error) {
		cancel()
		loop.Wait()
		return n, failed
	}
}

// verdict is what became of one case.
type verdict struct {
	word string
	err  error
}

// verdicts tries all cases on both listeners.
func verdicts(plain, https string) map[string]verdict {
	all := map[string]verdict{}
	for _, secure := range []bool{false, true} {
		addr, name := plain, "h2c"
		if secure {
			addr, name = https, "tls"
		}
		host, port, _ := net.SplitHostPort(addr)
		c := &config.Config{Host: host, Path: "/", Timeout: caseTimeout, MaxHeaderLen: 4000, Strict: true, TLS: secure, Insecure: true}
		c.Port, _ = strconv.Atoi(port)
		stdout := os.Stdout // h2spec prints as it goes
		os.Stdout, _ = os.Open(os.DevNull)
		for _, g := range []*spec.TestGroup{generic.Spec(), http2.Spec(), hpack.Spec()} {
			g.Test(c)
			collect(all, name, g)
		}
		os.Stdout.Close()
		os.Stdout = stdout
	}
	return all
}

func collect(all map[string]verdict, name string, g *spec.TestGroup) {
	for _, tc := range append(slices.Clone(g.Tests), g.StrictTests...) {
		if r := tc.Result; r != nil {
			v := verdict{word: "passed", err: r.Error}
			switch {
			case r.Failed:
				v.word = "failed"
			case r.Skipped:
				v.word = "skipped"
			}
			all[fmt.Sprintf("%s %s/%d %s", name, g.ID(), r.Sequence, tc.Desc)] = v
		}
	}
	for _, sub := range g.Groups {
		collect(all, name, sub)
	}
}

func count(all map[string]verdict) string {
	n := map[string]int{}
	for _, v := range all {
		n[v.word]++
	}
	return fmt.Sprintf("%d cases, %d passed, %d failed, %d skipped", len(all), n["passed"], n["failed"], n["skipped"])
}

// certificate makes a pair of PEM files.
func certificate(dir string) (cert, key string, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", "", err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		return "", "", err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return "", "", err
	}
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	return cert, key, errors.Join(
		os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644),
		os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), 0o644))
}
