// Package redislist tries examples/redis-list: no item is lost by reloads, rollbacks and a crash.
package redislist

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/test/service"
)

const (
	// limit bounds each wait of the test; none is ever waited out when all is well.
	limit = time.Minute
	// every is each client's pause: the list must not reach maxItems.
	every = 5 * time.Millisecond
)

// startRedis runs a Redis of the test's own on a Unix socket.
func startRedis(t *testing.T, dir string) (url string) {
	t.Helper()
	server, err := exec.LookPath("redis-server")
	if err != nil {
		t.Skip("redis-server is not installed (Debian: apt-get install redis-server); this example is not tested")
	}
	socket := filepath.Join(dir, "redis.sock")
	log, err := os.Create(filepath.Join(dir, "redis.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(server, "--port", "0", "--unixsocket", socket, "--dir", dir, "--save", "", "--appendonly", "no")
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	url = "unix://" + socket
	options, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	db := redis.NewClient(options)
	defer db.Close()
	for end := time.Now().Add(limit); ; time.Sleep(5 * time.Millisecond) {
		err := db.Ping(t.Context()).Err()
		if err == nil {
			return url
		}
		if time.Now().After(end) {
			b, _ := os.ReadFile(log.Name())
			t.Fatalf("Redis does not answer: %v\n%s", err, b)
		}
	}
}

// build builds masterd and this example.
func build(t *testing.T, dir string) service.Programs {
	t.Helper()
	p := service.Programs{Masterd: filepath.Join(dir, "masterd"), Demo: filepath.Join(dir, "redis-list")}
	for _, b := range []struct{ in, out, what string }{{"../../..", p.Masterd, "./cmd/masterd"}, {"../../../examples/redis-list", p.Demo, "."}} {
		cmd := exec.Command("go", "build", "-o", b.out, b.what)
		cmd.Dir = b.in
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("building %s: %v\n%s", b.what, err, out)
		}
	}
	return p
}

// clients add items, each one after the other, and remember what was answered.
type clients struct {
	mu       sync.Mutex
	answered map[string]bool
	failed   []string
}

func (c *clients) post(client *http.Client, addr, item string) {
	resp, err := client.Post("http://"+addr+"/list", "text/plain", strings.NewReader(item))
	ok, text := false, ""
	if err != nil {
		text = err.Error()
	} else {
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		ok, text = resp.StatusCode == http.StatusCreated, resp.Status+" "+string(b)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if ok {
		c.answered[item] = true
	} else {
		c.failed = append(c.failed, item+": "+text)
	}
}

func (c *clients) count() (answered, failed int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.answered), len(c.failed)
}

// more waits until so many more items were answered.
func (c *clients) more(t *testing.T, n int) {
	t.Helper()
	before, _ := c.count()
	for end := time.Now().Add(limit); ; time.Sleep(time.Millisecond) {
		if now, failed := c.count(); now >= before+n {
			return
		} else if time.Now().After(end) {
			t.Fatalf("no answers; %d requests failed: %q", failed, c.failed)
		}
	}
}

func TestNothingIsLost(t *testing.T) {
	dir, err := os.MkdirTemp("", "md-") // a short name: it is part of a socket's
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	url := startRedis(t, dir)
	s, err := service.New(build(t, dir), dir)
	if err != nil {
		t.Fatal(err)
	}
	s.Config.Set("worker.env.REDIS_URL", url).Set("worker.processes", 2).Set("rollout.bake", "10s").Set("restart.max", "200ms").Set("restart.loop", 100)
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Log(s.Log(40))
		}
	})

	c := &clients{answered: map[string]bool{}}
	ctx, stop := context.WithCancel(context.Background())
	var writing sync.WaitGroup
	tr := &http.Transport{MaxIdleConnsPerHost: 4}
	client := &http.Client{Transport: tr, Timeout: limit}
	for i := range 4 {
		writing.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				time.Sleep(every)
				c.post(client, s.Addr, fmt.Sprintf("client %d, item %d", i, n))
			}
		})
	}
	end := sync.OnceFunc(func() { stop(); writing.Wait(); tr.CloseIdleConnections() })
	t.Cleanup(end)
	c.more(t, 20)

	for i := range 10 {
		s.Config.Set("worker.env.RELEASE", fmt.Sprint(i))
		if err := s.Write(); err != nil {
			t.Fatal(err)
		}
		if out, err := s.API.Reload(t.Context(), api.ReloadRequest{Label: fmt.Sprint("v", i+2)}, nil); err != nil || out.Result != api.ResultDone {
			t.Fatalf("reload: %+v, %v", out, err)
		}
		c.more(t, 20)
		if i%3 == 2 {
			if out, err := s.API.Rollback(t.Context(), api.RollbackRequest{}, nil); err != nil || out.Result != api.ResultDone {
				t.Fatalf("rollback: %+v, %v", out, err)
			}
			c.more(t, 20)
		}
	}
	if _, failed := c.count(); failed > 0 {
		t.Errorf("%d requests failed during reloads and rollbacks, the first: %s", failed, c.failed[0])
	}

	// A crash loses what has no answer, and nothing else.
	pid, err := s.Worker(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	c.more(t, 100)
	end()

	items := list(t, s.Addr)
	times := map[string]int{}
	for _, item := range items {
		if times[item]++; times[item] > 1 {
			t.Errorf("%d times in the list: %s", times[item], item)
		}
	}
	var lost []string
	for item := range c.answered {
		if times[item] == 0 {
			lost = append(lost, item)
		}
	}
	if len(lost) > 0 {
		t.Errorf("%d items are lost, one of them: %s", len(lost), lost[0])
	}
	t.Logf("10 reloads, 3 rollbacks, 1 kill; %d items answered, %d requests without an answer", len(c.answered), len(c.failed))
}

func list(t *testing.T, addr string) []string {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: limit}
	resp, err := client.Get("http://" + addr + "/list")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct{ Items []string }
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		t.Fatalf("%s: %v", resp.Status, err)
	}
	return answer.Items
}
