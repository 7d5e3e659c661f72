package draft

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"time"
)

const (
	answerTime = 2 * time.Second // for each request but the first
	firstTime  = 8 * time.Second // for that: many a server listens before it can answer
	// noPath is known to no program; who answers it with 200 answers so to all.
	noPath = "/masterd-init-knows-no-such-path"
)

// healthPaths are where programs say that they are well, most likely first.
var healthPaths = []string{"/healthz", "/health", "/livez", "/readyz", "/up", "/ping", "/status", "/api/health", "/actuator/health", "/-/healthy", "/"}

// ask finds out what an address answers, by GET.
func ask(ctx context.Context, address string) (a Answer) {
	c, err := (&net.Dialer{Timeout: answerTime}).DialContext(ctx, "tcp", address)
	if err != nil {
		return a
	}
	c.Close()
	a.Taken = true
	client := &http.Client{
		Timeout:       firstTime,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		// The certificate is that of the program that was just started.
		Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}},
	}
	get := func(scheme, path string) int {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+address+path, nil)
		if err != nil {
			return 0
		}
		req.Host = "localhost" // as the checks have it
		req.Header.Set("User-Agent", "masterd-check")
		resp, err := client.Do(req)
		if err != nil {
			return 0
		}
		defer resp.Body.Close()
		_, _ = io.CopyN(io.Discard, resp.Body, 64<<10)
		return resp.StatusCode
	}
	status := get("http", noPath)
	client.Timeout = answerTime
	if a.Scheme = "http"; status == 0 || status == http.StatusBadRequest { // so servers answer that speak TLS
		if secured := get("https", noPath); secured != 0 {
			a.Scheme, status = "https", secured
		}
	}
	if status == 0 {
		return Answer{Taken: true}
	}
	if status == http.StatusOK {
		a.Path, a.Every = "/", true
		return a
	}
	for _, path := range healthPaths {
		if get(a.Scheme, path) == http.StatusOK {
			a.Path = path
			return a
		}
	}
	return a
}
