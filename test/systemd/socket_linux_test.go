package systemd

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/masterd/masterd/pkg/api"
)

// systemd holds the address: the first client starts the service, a stop and a
// start fail nobody who waits in between, and reloads, upgrades and deaths of the
// master go as without it.
func TestSocketUnit(t *testing.T) {
	t.Parallel()
	b := boot(t)
	b.installMasterd()
	b.install("demo-v1", "demo")
	u := b.unit("masterd@shop", "/etc/masterd/shop.yaml", "shop", 8080)
	u.write("/etc/systemd/system/masterd@shop.socket.d/listen.conf", "[Socket]\nListenStream=127.0.0.1:8080\n")
	u.must("systemctl", "daemon-reload")
	u.must("systemctl", "start", "masterd@shop.socket")
	u.wants("ActiveState=inactive")
	if a := u.get("/ping"); a.err != nil || a.status != http.StatusOK {
		t.Fatalf("the first client: %+v", a)
	}
	u.becomes("ActiveState", "active")
	u.baked()
	st, err := u.status()
	if err != nil || len(st.Listeners) != 1 || st.Listeners[0].Steering != "kernel" {
		t.Fatalf("%+v, %v", st.Listeners, err)
	}
	u.underLoad(func() {
		u.install("demo-v2", "demo")
		u.must("systemctl", "reload", u.name)
		u.serves("v2")
		u.must("masterd", "upgrade", "--service", "shop")
		m, _ := u.master()
		m.signal(t, 9)
		u.becomes("NRestarts", "1")
		u.becomes("ActiveState", "active")
		u.install("demo-v1", "demo")
		u.must("systemctl", "reload", u.name)
		u.serves("v1")
		u.baked()
	})
	u.must("systemctl", "stop", u.name)
	u.wants("ActiveState=inactive")
	if a := u.get("/ping"); a.err != nil || a.status != http.StatusOK {
		t.Fatalf("the first client after a stop: %+v", a)
	}
	u.becomes("ActiveState", "active")
	if out := u.must("masterd", "status", "--service", "shop"); !strings.Contains(out, "serving") {
		t.Errorf("masterd status:\n%s", out)
	}
	u.must("systemctl", "stop", "masterd@shop.socket", u.name)
	u.nobody()
}

// An ordinary user's unit serves on a low port: either systemd opens it, and workers share
// that socket, as it is root's; or the master may, by the one capability that it takes.
func TestLowPortOfAnOrdinaryUser(t *testing.T) {
	t.Parallel()
	for steering, capability := range map[string]string{"shared": "", "kernel": "AmbientCapabilities=CAP_NET_BIND_SERVICE"} {
		t.Run(steering, func(t *testing.T) {
			t.Parallel()
			b := boot(t)
			b.installMasterd()
			b.install("demo-v1", "demo")
			u := b.unit("masterd@shop", "/etc/masterd/shop.yaml", "shop", 80)
			u.dropIn("User=nobody", "Environment=XDG_STATE_HOME=/var/lib", capability)
			if capability == "" {
				u.write("/etc/systemd/system/masterd@shop.socket.d/listen.conf", "[Socket]\nListenStream=127.0.0.1:80\n")
				u.must("systemctl", "daemon-reload")
				u.must("systemctl", "start", "masterd@shop.socket")
			}
			u.must("systemctl", "start", u.name)
			u.serves("v1")
			// By a client in the box, as the unit's user: root trusts no directory of another's.
			u.eventually("the first bake's end", func() (bool, string) {
				var st api.Status
				out, _ := u.run("setpriv", "--reuid=nobody", "--clear-groups", "masterd", "status", "--config", u.file, "--json")
				err := json.Unmarshal([]byte(out), &st)
				return err == nil && len(st.Listeners) == 1 && st.Listeners[0].Steering == steering && st.Active != nil && st.Active.Baked, out
			})
			u.underLoad(func() {
				u.install("demo-v2", "demo")
				u.must("systemctl", "reload", u.name)
				u.serves("v2")
				m, _ := u.master()
				m.signal(t, 9)
				u.becomes("NRestarts", "1")
				u.becomes("ActiveState", "active")
				u.says("serving", "(generation 2)")
			})
			m, workers := u.master()
			for _, p := range append(workers, m) {
				status := p.file(t, "status")
				for _, want := range []string{"\nUid:\t65534\t65534\t65534\t65534\n", "\nNoNewPrivs:\t1\n"} {
					if !strings.Contains(status, want) {
						t.Errorf("%+v has no %q:\n%s", p, want, status)
					}
				}
			}
			if u.must("systemctl", "stop", u.name); capability == "" {
				u.must("systemctl", "stop", "masterd@shop.socket")
			}
			u.nobody()
			if out := u.must("journalctl", "-o", "cat", "-u", u.name); strings.Contains(out, "signalling worker") {
				t.Errorf("workers did not leave by themselves:\n%s", out)
			}
		})
	}
}
