//go:build linux

package session

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/worker"
)

// Workers and a first master of tests are this binary.
func TestMain(m *testing.M) {
	switch {
	case os.Getenv(ipc.EnvControl) != "":
		w := worker.New(worker.Options{})
		w.OnActive(func(ctx context.Context) { <-ctx.Done() })
		if w.Run(context.Background()) != nil {
			os.Exit(1)
		}
		os.Exit(0)
	case len(os.Args) == 3 && os.Args[1] == "connect":
		connectAndLeave(os.Args[2])
	case len(os.Args) == 4 && os.Args[1] == "as-master":
		n, _ := strconv.Atoi(os.Args[3])
		firstMaster(os.Args[2], n)
	}
	os.Exit(m.Run())
}

func processExpectation(id int, fact func(Fact)) Expect {
	e := expectation(fact)
	e.Worker = uint64(id)
	e.Welcome.Listeners = nil
	return e
}

// firstMaster starts workers, makes them active and says so, until it is killed.
func firstMaster(path string, n int) {
	hub, err := Listen(Options{Path: path})
	if err != nil {
		panic(err)
	}
	for id := 1; id <= n; id++ {
		var s atomic.Pointer[Session]
		e := processExpectation(id, func(f Fact) {
			switch f.Kind {
			case Ready:
				if err := s.Load().Activate(nil, nil); err != nil {
					panic(err)
				}
			case Accepting:
				fmt.Println("active")
			}
		})
		s.Store(hub.Expect(e))
		c := exec.Command("/proc/self/exe")
		c.Env = []string{ipc.EnvControl + "=" + path, ipc.EnvWorker + "=" + strconv.Itoa(id), ipc.EnvSecret + "=" + e.Secret,
			ipc.EnvGeneration + "=" + strconv.Itoa(testGeneration), "GOMAXPROCS=1"}
		c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		if err := c.Start(); err != nil {
			panic(err)
		}
		fmt.Println("worker", id, c.Process.Pid, HashSecret(e.Secret))
		s.Load().SetPID(c.Process.Pid)
	}
	select {}
}

// survivors are the workers of a master that was killed.
type survivor struct {
	id, pid int
	hash    string
}

func survivors(t testing.TB, path string, n int) (all []survivor) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(self, "as-master", path, strconv.Itoa(n))
	c.Stderr = os.Stderr
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, s := range all {
			syscall.Kill(-s.pid, syscall.SIGKILL)
		}
	})
	late := time.AfterFunc(2*patience, func() { c.Process.Kill() })
	defer late.Stop()
	active := 0
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var s survivor
		if got, _ := fmt.Sscanf(lines.Text(), "worker %d %d %s", &s.id, &s.pid, &s.hash); got == 3 {
			all = append(all, s)
		} else if lines.Text() == "active" {
			active++
		}
		if active == n {
			c.Process.Kill()
		}
	}
	c.Wait()
	if active < n || len(all) < n {
		t.Fatalf("%d of %d workers are active", active, n)
	}
	return all
}

// reunite is the next master; it says how long it took until all were there.
func reunite(t testing.TB, path string, all []survivor) time.Duration {
	t.Helper()
	hub, err := Listen(Options{Path: path, Later: true, Refused: func(reason string) { t.Errorf("refused: %s", reason) }})
	if err != nil {
		t.Fatal(err)
	}
	defer hub.Close()
	began := time.Now()
	var there sync.WaitGroup
	for _, s := range all {
		there.Add(1)
		var once sync.Once
		e := processExpectation(s.id, func(f Fact) {
			if f.Kind != Connected {
				return
			}
			if h := f.Hello; h.State != ipc.StateActive || !h.Background || h.Seq == 0 {
				t.Errorf("worker %d says it is %+v", s.id, h)
			}
			once.Do(there.Done)
		})
		e.Secret, e.SecretHash = "", s.hash
		hub.Expect(e).SetPID(s.pid)
	}
	hub.Begin()
	done := make(chan struct{})
	go func() { defer close(done); there.Wait() }()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatal("not all workers came back")
	}
	return time.Since(began)
}

// Workers of a master that was killed come back to the next, each time.
func TestWorkersComeBackToTheNextMaster(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c")
	all := survivors(t, path, 3)
	for range 3 {
		t.Log("all were back after", reunite(t, path, all))
	}
}

// BenchmarkReunion is from the control socket's being there again to the last
// of so many workers' being connected, at different times after the death.
func BenchmarkReunion(b *testing.B) {
	for _, n := range []int{1, 50} {
		for _, gone := range []time.Duration{0, 300 * time.Millisecond, 5 * time.Second} {
			b.Run(fmt.Sprintf("workers=%d/gone=%v", n, gone), func(b *testing.B) {
				path := filepath.Join(b.TempDir(), "c")
				all := survivors(b, path, n)
				var sum, most time.Duration
				for range b.N {
					time.Sleep(gone)
					d := reunite(b, path, all)
					sum, most = sum+d, max(most, d)
				}
				b.ReportMetric(float64(sum.Microseconds())/1000/float64(b.N), "ms/mean")
				b.ReportMetric(float64(most.Microseconds())/1000, "ms/most")
			})
		}
	}
}
