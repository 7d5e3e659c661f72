package metrics

import (
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"go.uber.org/zap"
)

const wait = 20 * time.Second

func get(t *testing.T, method, url string) (int, string, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	return res.StatusCode, string(body), nil
}

// An address that is another's is taken as soon as it is free, and costs nothing meanwhile.
func TestServeTakesTheAddressWhenItIsFree(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := "http://" + ln.Addr().String()
	s := Serve(ln.Addr().String(), http.NotFoundHandler(), zap.NewNop())
	defer s.Close()
	ln.Close()
	for end := time.Now().Add(wait); ; time.Sleep(10 * time.Millisecond) {
		code, body, err := get(t, http.MethodGet, at+"/")
		if err == nil && code == 200 && body != "" {
			break
		}
		if time.Now().After(end) {
			t.Fatal(code, err)
		}
	}
	if err := s.Trouble(); err != nil {
		t.Error(err)
	}
	for _, x := range []struct {
		method, path string
		want         int
	}{{"GET", "/v1/status", 404}, {"POST", "/metrics", 405}, {"GET", "/metrics/", 404}, {"PUT", "/", 405}} {
		if code, _, err := get(t, x.method, at+x.path); err != nil || code != x.want {
			t.Errorf("%s %s: %d, %v", x.method, x.path, code, err)
		}
	}
}

// Scrapers that connect and say nothing keep out nobody for longer than a time-out, and are few.
func TestConnectionsAreBounded(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	free.Close()
	s := Serve(address, http.NotFoundHandler(), zap.NewNop())
	defer s.Close()
	var open []net.Conn
	defer func() {
		for _, c := range open {
			c.Close()
		}
	}()
	for end := time.Now().Add(wait); len(open) < maxConns && time.Now().Before(end); {
		if c, err := net.Dial("tcp", address); err == nil {
			open = append(open, c)
		}
	}
	code, _, err := get(t, http.MethodGet, "http://"+address+"/metrics")
	if err != nil || code != 404 {
		t.Errorf("%d, %v", code, err) // once the silent ones were closed
	}
}

func TestCloseEndsTheWaitForAnAddress(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	Serve(ln.Addr().String(), http.NotFoundHandler(), zap.NewNop()).Close()
	Serve("", http.NotFoundHandler(), zap.NewNop()).Close()
}
