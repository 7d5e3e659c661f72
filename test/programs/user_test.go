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

// Each preset's program serves and is reloaded as another user than root, too: without
// any capability, and without a way to get one.
func TestPresetsAsAnotherUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root; as an ordinary user all tests are such tests")
	}
	for _, p := range all() {
		if !slices.Contains([]string{"gunicorn", "uvicorn", "node", "nginx", "haproxy", "caddy", "puma", "php-fpm"}, p.name) {
			continue
		}
		t.Run(p.name, func(t *testing.T) {
			if _, err := os.Stat(p.needs); err != nil {
				t.Skip(err)
			}
			dir := shortDir(t)
			s, err := service.New(built, shortDir(t))
			if err != nil {
				t.Fatal(err)
			}
			p.layOut(t, s, dir)
			if err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
				if err == nil {
					err = exec.Command("chown", "www-data:www-data", path).Run()
				}
				return err
			}); err != nil {
				t.Skip(err)
			}
			s.Config.Set("worker.user", "www-data")
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
