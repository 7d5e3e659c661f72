package programs

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/test/service"
	"github.com/masterd/masterd/test/service/servicetest"
)

// Each preset's program takes each kind of listener that check lets it have: one that
// is checked, serves and is reloaded has found its socket. TCP over IPv4 is the
// examples'.
func TestPresetsTakeTheirListeners(t *testing.T) {
	besideOthers(t)
	kinds := map[string]struct{ address, spelled string }{ // spelled: in the program's own configuration
		"tcp6": {"tcp6://[::1]:PORT", "[::1]:PORT"},
		"dual": {"tcp://:PORT", "[::]:PORT"},
		"unix": {"unix://DIR/s", "DIR/s"},
	}
	refused := []string{"nginx/unix", "puma/unix", "node/unix", "caddy/unix"}
	for _, p := range all() {
		if !slices.Contains([]string{"gunicorn", "uvicorn", "nginx", "haproxy", "puma", "php-fpm"}, p.name) {
			continue // it binds by itself, or has no preset
		}
		for kind, k := range kinds {
			t.Run(p.name+"/"+kind, func(t *testing.T) {
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
				_, port, _ := strings.Cut(s.Addr, ":")
				here := strings.NewReplacer("PORT", port, "DIR", dir)
				spelled := here.Replace(k.spelled)
				listener := s.Config["listeners"].([]any)[0].(map[string]any)
				listener["address"] = here.Replace(k.address)
				worker := s.Config["worker"].(map[string]any)
				for i, word := range worker["command"].([]any) {
					worker["command"].([]any)[i] = strings.ReplaceAll(word.(string), s.Addr, spelled)
				}
				if p.name == "nginx" && kind == "dual" {
					spelled += " ipv6only=off"
				}
				files, err := filepath.Glob(filepath.Join(dir, "*"))
				if err != nil {
					t.Fatal(err)
				}
				for _, f := range files {
					text, err := os.ReadFile(f)
					if err == nil {
						err = os.WriteFile(f, []byte(strings.ReplaceAll(string(text), s.Addr, spelled)), 0o644)
					}
					if err != nil {
						t.Fatal(err)
					}
				}
				servicetest.StopAtEnd(t, s)
				err = s.Start(t.Context())
				if slices.Contains(refused, p.name+"/"+kind) {
					if err == nil || !strings.Contains(s.Log(30)+err.Error(), "finds its sockets by their paths") {
						t.Errorf("it should be refused: %v", err)
					}
					return
				}
				if err != nil {
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
}
