package programs

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/test/service"
)

// Each preset's program, a plain one and Java serve and are reloaded as another user than
// root, too: without any capability, and without a way to get one.
func TestPresetsAsAnotherUser(t *testing.T) { presetsAs(t, "www-data") }

// The same as root, in short: TestPrograms has them under load.
func TestPresetsAsRoot(t *testing.T) { presetsAs(t, "") }

func presetsAs(t *testing.T, user string) {
	if os.Getuid() != 0 {
		t.Skip("needs root; as an ordinary user all tests are such tests")
	}
	for _, p := range all() {
		if !slices.Contains([]string{"gunicorn", "uvicorn", "node", "nginx", "haproxy", "caddy", "puma", "php-fpm", "java", "net-http"}, p.name) {
			continue
		}
		t.Run(p.name, func(t *testing.T) {
			if _, err := os.Stat(p.needs); p.needs != "" && err != nil {
				t.Skip(err)
			}
			dir := shortDir(t)
			s, err := service.New(built, shortDir(t))
			if err != nil {
				t.Fatal(err)
			}
			p.layOut(t, s, dir)
			if p.name == "net-http" {
				p.change(t, s, dir)
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
			t.Cleanup(func() {
				if err := s.Stop(); err != nil {
					t.Error(err)
				}
				if t.Failed() {
					t.Logf("the end of the master's log:\n%s", s.Log(30))
				}
			})
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
