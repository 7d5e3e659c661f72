package systemd

import (
	"net/http"
	"strings"
	"testing"
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
