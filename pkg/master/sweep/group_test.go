package sweep

import (
	"strings"
	"testing"
)

func TestOwnGroup(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"0::/system.slice/masterd.service\n", "/system.slice/masterd.service"},
		{"0::/system.slice/system-masterd.slice/masterd@shop.service/.control\n", "/system.slice/system-masterd.slice/masterd@shop.service"},
		{"9:name=systemd:/system.slice/masterd.service\n4:memory:/other.service\n0::/\n", "/system.slice/masterd.service"},
		{"0::/user.slice/user-1000.slice/user@1000.service/app.slice/masterd.service\n", "/user.slice/user-1000.slice/user@1000.service/app.slice/masterd.service"},
		{"0::/user.slice/user-1000.slice/session-3.scope\n", ""},
		{"4:memory:/system.slice/masterd.service\n0::/\n", ""}, // not a hierarchy of systemd's
		{"0::/\n", ""},
		{"", ""},
		{"nonsense", ""},
	} {
		g, err := OwnGroup(c.text)
		if g.path != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%q: %q, %v; want %q", c.text, g.path, err, c.want)
		}
	}
}

func TestGroupHas(t *testing.T) {
	own, err := OwnGroup("0::/system.slice/masterd.service\n")
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]bool{
		"0::/system.slice/masterd.service\n":                    true,
		"0::/system.slice/masterd.service/child\n":              true,
		"1:name=systemd:/system.slice/masterd.service\n0::/\n":  true,
		"0::/system.slice/masterd.service2\n":                   false,
		"0::/system.slice/masterd-worker-7.scope\n":             true, // a worker with limits
		"0::/system.slice/masterd-worker-7.scope/child\n":       true,
		"1:name=systemd:/system.slice/masterd-worker-7.scope\n": true,
		"0::/system.slice/masterd-worker-7.scopes\n":            false,
		"0::/system.slice/masterd-worker-7.service\n":           false,
		"0::/system.slice/masterd-worker-7-worker-1.scope\n":    false, // another unit's
		"0::/system.slice/masterd:a-worker-7.scope\n":           false,
		"0::/user.slice/masterd-worker-7.scope\n":               false,
		"0::/system.slice\n":                                    false,
		"4:memory:/system.slice/masterd.service\n0::/x.slice\n": false,
		"": false,
	} {
		if got := own.has(text); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}

// systemd says "/" or nothing of a unit that has no group: that is everybody's.
func TestUnitGroupIsAService(t *testing.T) {
	for _, path := range []string{"", "/", "/system.slice", "/user.slice/session-1.scope"} {
		if g, err := UnitGroup(path); err == nil {
			t.Errorf("%q is taken for a service: %v", path, g)
		}
	}
}

// Whatever the kernel says, and whatever groups are called, only a service's is ended, and
// whoever says that it is in it.
func FuzzOwnGroup(f *testing.F) {
	f.Add("0::/system.slice/masterd.service\n", "1:name=systemd:/system.slice/masterd.service/child\n0::/\n")
	f.Add("0::/a.service/.service/x\n", "0::")
	f.Add("4:memory:/system.slice/masterd.service\n0::/\n", "0:::")
	f.Fuzz(func(t *testing.T, text, other string) {
		g, err := OwnGroup(text)
		if err != nil {
			return
		}
		if !strings.HasSuffix(g.path, ".service") || !strings.Contains(text, g.path) || !g.has(text) {
			t.Errorf("%q is said to be in %q", text, g.path)
		}
		if g.has(other) && !strings.Contains(other, strings.TrimSuffix(g.path, ".service")) {
			t.Errorf("%q is said to be in %q", other, g.path)
		}
	})
}
