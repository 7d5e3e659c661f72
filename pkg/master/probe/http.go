package probe

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/masterd/masterd/pkg/master/config"
)

// request is what is sent, made once and used for every check.
type request struct {
	method, path, host string
	scheme             string
	headers            [][2]string // sorted by name
	wire               []byte      // as HTTP/1.1
	parsed             *http.Request
	tls                *tls.Config // of https
}

func newRequest(h *config.HTTPCheck, method, path string) *request {
	r := &request{method: method, path: path, host: h.Host, scheme: h.Scheme, parsed: &http.Request{Method: method}}
	if r.host == "" {
		r.host = "localhost"
	}
	agent := "masterd-check"
	for _, name := range slices.Sorted(maps.Keys(h.Headers)) {
		if strings.EqualFold(name, "user-agent") {
			agent = h.Headers[name]
			continue
		}
		r.headers = append(r.headers, [2]string{name, h.Headers[name]})
	}
	r.headers = append(r.headers, [2]string{"User-Agent", agent})

	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\n", method, path, r.host)
	for _, kv := range r.headers {
		fmt.Fprintf(&b, "%s: %s\r\n", kv[0], kv[1])
	}
	if method != "GET" && method != "HEAD" {
		b.WriteString("Content-Length: 0\r\n")
	}
	b.WriteString("Connection: close\r\n\r\n")
	r.wire = b.Bytes()

	if h.Scheme == "https" {
		name, _, err := net.SplitHostPort(r.host)
		if err != nil {
			name = r.host
		}
		// The certificate is that of our own worker, for a name that is not ours to know.
		r.tls = &tls.Config{InsecureSkipVerify: true, ServerName: strings.Trim(name, "[]"), NextProtos: []string{"http/1.1", "h2"}}
	}
	return r
}

// answer is what came back.
type answer struct {
	status   int
	location string
	body     []byte // its beginning
}

// checkHTTP makes one request and looks at the status.
func (c *Checker) checkHTTP(ctx context.Context, dial Dialer) error {
	a, err := c.check.do(ctx, dial)
	if err != nil {
		return fmt.Errorf("%s %s: %w", c.check.method, c.check.path, err)
	}
	for _, want := range c.health.HTTP.Status {
		if want.From <= a.status && a.status <= want.To {
			return nil
		}
	}
	text := strings.TrimSpace(fmt.Sprintf("%s %s: %d %s", c.check.method, c.check.path, a.status, http.StatusText(a.status)))
	if a.location != "" {
		text = fmt.Sprintf("%s: redirects are not followed (to %s)", text, oneLine(a.location))
	} else if body := oneLine(string(a.body)); body != "" {
		text += ": " + body
	}
	if no := c.check.refusedBy(a, text); no != nil {
		return no
	}
	return fmt.Errorf("%s", text)
}

// do makes the request on a connection of its own and closes it.
func (r *request) do(ctx context.Context, dial Dialer) (answer, error) {
	started := time.Now()
	conn, err := dial(ctx)
	if err != nil {
		return answer{}, explain(ctx, started, "connection", err)
	}
	defer conn.Close()
	defer guard(ctx, conn)()

	speak, stream := r.http1, io.ReadWriter(conn)
	if r.scheme == "h2c" {
		speak = r.http2
	}
	if r.tls != nil {
		secured := tls.Client(conn, r.tls) // closed beneath: waiting for a goodbye is not worth it
		if err := secured.Handshake(); err != nil {
			return answer{}, fmt.Errorf("TLS: %w", explain(ctx, started, "handshake", err))
		}
		if secured.ConnectionState().NegotiatedProtocol == "h2" {
			speak = r.http2
		}
		stream = secured
	}
	a, err := speak(stream, func() { _ = conn.SetReadDeadline(sooner(ctx, bodyTime)) })
	if err != nil {
		return answer{}, explain(ctx, started, "answer", err)
	}
	return a, nil
}

// sooner is the end of ctx, or of the time from now, whichever comes first.
func sooner(ctx context.Context, wait time.Duration) time.Time {
	t := time.Now().Add(wait)
	if d, ok := ctx.Deadline(); ok && d.Before(t) {
		return d
	}
	return t
}

// http1 writes the request and reads one answer. hurry is called once the
// status is known: a body that never ends fails nobody.
func (r *request) http1(stream io.ReadWriter, hurry func()) (answer, error) {
	if _, err := stream.Write(r.wire); err != nil {
		return answer{}, err
	}
	limit := &io.LimitedReader{R: stream, N: maxAnswer}
	in := bufio.NewReader(limit)
	var resp *http.Response
	for i := 0; ; i++ {
		var err error
		if resp, err = http.ReadResponse(in, r.parsed); err != nil && limit.N <= 0 {
			return answer{}, fmt.Errorf("the headers of the answer are longer than %d KiB", maxAnswer>>10)
		} else if err != nil {
			return answer{}, err
		}
		if resp.StatusCode >= 200 || resp.StatusCode == http.StatusSwitchingProtocols {
			break
		}
		if i == maxInterim {
			return answer{}, fmt.Errorf("more than %d interim answers", maxInterim)
		}
	}
	hurry()
	a := answer{status: resp.StatusCode}
	if a.status/100 == 3 {
		a.location = resp.Header.Get("Location")
	}
	// Read to its end, so that the worker is not cut off while it writes, but
	// only so far; what is missing of a body is no fault of the check.
	a.body, _ = io.ReadAll(io.LimitReader(resp.Body, 4*maxShown))
	_, _ = io.CopyN(io.Discard, resp.Body, maxBodyRead)
	return a, nil
}
