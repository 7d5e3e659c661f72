package programs

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/test/service"
	"github.com/masterd/masterd/test/service/servicetest"
)

// Each preset's program, a plain one and Java serve and are reloaded as another user than
// root, too: without any capability, and without a way to get one.
func TestPresetsAsAnotherUser(t *testing.T) { presetsAs(t, "www-data") }

// The same as root, in short: TestPrograms has them under load.
func TestPresetsAsRoot(t *testing.T) { presetsAs(t, "") }

// class is the example's Java program, compiled once. From its source it compiles itself
// at each start, as in TestPrograms, and that takes four times as long.
var class = sync.OnceValues(func() (text []byte, err error) {
	if out, err := exec.Command("javac", "-d", scratch, "testdata/java/Server.java").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	return os.ReadFile(filepath.Join(scratch, "Server.class"))
})

// compiled has Java start what was compiled before.
func compiled(t *testing.T, s *service.Service, dir string) {
	t.Helper()
	text, err := class()
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "Server.class"), text, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	worker := s.Config["worker"].(map[string]any)
	command := worker["command"].([]any)
	worker["command"] = append(command[:len(command)-1], "-cp", ".", "Server")
	_, port, _ := strings.Cut(s.Addr, ":")
	s.Config.Set("worker.env.PORT", port)
}

func presetsAs(t *testing.T, user string) {
	if os.Getuid() != 0 {
		t.Skip("needs root; as an ordinary user all tests are such tests")
	}
	besideOthers(t)
	for _, p := range all() {
		if !slices.Contains([]string{"gunicorn", "uvicorn", "node", "nginx", "haproxy", "caddy", "puma", "php-fpm", "apache", "lighttpd", "php", "java", "tomcat", "net-http"}, p.name) {
			continue
		}
		t.Run(p.name, func(t *testing.T) {
			besideOthers(t)
			if _, err := os.Stat(p.needs); p.needs != "" && err != nil {
				t.Skip(err)
			}
			dir := servicetest.ShortDir(t)
			s, err := service.New(built, servicetest.ShortDir(t))
			if err != nil {
				t.Fatal(err)
			}
			p.layOut(t, s, dir)
			switch p.name {
			case "net-http":
				p.change(t, s, dir)
			case "java":
				compiled(t, s, dir)
			}
			if user != "" {
				if err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
					if err == nil {
						err = exec.Command("chown", user+":"+user, path).Run()
					}
					return err
				}); err != nil {
					t.Skip(err)
				}
			}
			s.Config.Set("worker.user", user)
			servicetest.StopAtEnd(t, s)
			if err := s.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			s.Config.Set("worker.env.RELEASE", "v2")
			if err := s.Write(); err != nil {
				t.Fatal(err)
			}
			out, err := s.API.Reload(t.Context(), api.ReloadRequest{Label: "v2", Until: "baked"}, nil)
			if err != nil || out.Result != api.ResultDone {
				t.Errorf("%+v, %v", out, err)
			}
		})
	}
}
