package systemd

import (
	"os"
	"strings"
	"testing"
)

// Services live side by side, and none notices the others' coming and going.
func TestInstancesSideBySide(t *testing.T) {
	t.Parallel()
	b := boot(t)
	b.installMasterd()
	b.install("demo-v1", "demo")
	x := b.unit("masterd@a", "/etc/masterd/a.yaml", "a", 8081)
	y := b.unit("masterd@b", "/etc/masterd/b.yaml", "b", 8082)
	x.start()
	y.start()
	for _, u := range []*unit{x, y} {
		u.says("serving")
		u.wants("ActiveState=active", "NRestarts=0")
	}
	for _, dir := range []string{"/run/masterd/a", "/run/masterd/b", "/var/lib/masterd/a", "/var/lib/masterd/b"} {
		info, err := os.Stat(b.path(dir))
		if err != nil || info.Mode().Perm() != 0o711 {
			t.Errorf("%s: %v, %v", dir, info, err)
		}
	}

	// Nobody says which: both are named.
	out, code := b.run("masterd", "status")
	if code == 0 || !strings.Contains(out, "/run/masterd/a") || !strings.Contains(out, "/run/masterd/b") {
		t.Errorf("masterd status: exit code %d\n%s", code, out)
	}
	for name, port := range map[string]string{"a": "8081", "b": "8082"} {
		if out := b.must("masterd", "status", "--service", name); !strings.Contains(out, port) {
			t.Errorf("masterd status --service %s:\n%s", name, out)
		}
	}

	// One reloads, the other does not notice.
	_, before := y.master()
	b.install("demo-v2", "demo")
	b.must("systemctl", "reload", "masterd@a")
	if got := x.version() + " " + y.version(); got != "v2 v1" {
		t.Errorf("a and b answer %s", got)
	}
	if _, after := y.master(); len(after) != 1 || after[0] != before[0] {
		t.Errorf("b's workers were %+v and are %+v", before, after)
	}

	// masterd.service comes and goes: the directory it is given is above theirs.
	z := b.unit("masterd", "/etc/masterd/masterd.yaml", "demo", 8080)
	z.start()
	b.must("systemctl", "stop", "masterd")
	for _, name := range []string{"a", "b"} {
		if out, code := b.run("masterd", "status", "--service", name); code != 0 {
			t.Errorf("after the end of masterd.service, masterd status --service %s: exit code %d\n%s", name, code, out)
		}
	}

	// With the default file gone and one service left, that is the one meant.
	if err := os.Remove(b.path("/etc/masterd/masterd.yaml")); err != nil {
		t.Fatal(err)
	}
	b.must("systemctl", "stop", "masterd@b")
	if out := b.must("masterd", "status"); !strings.Contains(out, "8081") {
		t.Errorf("masterd status:\n%s", out)
	}
	if got := x.version(); got != "v2" {
		t.Errorf("a answers %s", got)
	}
}
