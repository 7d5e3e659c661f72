package programs

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/masterd/masterd/test/load"
	"github.com/masterd/masterd/test/service"
)

// counted looks whether a program that counts its requests, and of which only one can run at a
// time, has forgotten some that it has answered.
func counted(t *testing.T, addr string, answered uint64) {
	t.Helper()
	var total uint64
	once, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	r := load.Run(once, load.Plan{Addr: addr, Check: func(_ int, _ load.Header, body []byte) (err error) {
		total, err = strconv.ParseUint(strings.TrimSpace(string(body)), 10, 64)
		return err
	}})
	if total < answered+r.Requests || r.Failed() > 0 {
		t.Errorf("it knows of %d requests, and has answered %d before the last %d:\n%s", total, answered, r.Requests, r)
	}
}

// bolt is the program of examples/bolt, a module of its own, built once.
var bolt = sync.OnceValues(func() (path string, err error) {
	path = filepath.Join(scratch, "bolt")
	build := exec.Command("go", "build", "-o", path, ".")
	build.Dir = "../../examples/bolt"
	build.Env = append(os.Environ(), "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return path, nil
})

// builtBolt puts it where its example has it.
func builtBolt(t *testing.T, _ *service.Service, dir string) {
	path, err := bolt()
	if err == nil {
		err = os.Link(path, filepath.Join(dir, "bolt"))
	}
	switch {
	case err != nil && *must:
		t.Fatal(err)
	case err != nil:
		t.Skip(err)
	}
}
