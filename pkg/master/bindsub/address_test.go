package bindsub

import (
	"net/netip"
	"testing"
)

func TestSockaddrs(t *testing.T) {
	in := []byte{2, 0, 0x1f, 0x90, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0}
	in6 := append([]byte{10, 0, 0x1f, 0x90, 0, 0, 0, 0}, append(make([]byte, 15), 1, 0, 0, 0, 0)...)
	for _, c := range []struct {
		b    []byte
		want string
	}{
		{in, "127.0.0.1:8080"}, {in6, "[::1]:8080"}, {in6[:24], "[::1]:8080"},
		{in[:15], ""}, {in6[:23], ""}, {nil, ""}, {[]byte{2}, ""},
		{append([]byte{1, 0}, "/run/x.sock"...), ""},
	} {
		at, ok := parseSockaddr(c.b)
		if ok != (c.want != "") || ok && at.String() != c.want {
			t.Errorf("% x: %v, %v, want %q", c.b, at, ok, c.want)
		}
	}
}

// Whatever lies in a program's memory, it is an address or none, and matching it
// against listeners ends in one way.
func FuzzSockaddr(f *testing.F) {
	f.Add([]byte{2, 0, 0x1f, 0x90, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0}, true)
	f.Add(append([]byte{10, 0, 0x1f, 0x90}, make([]byte, 24)...), false)
	ls := []Listener{
		{Name: "a", At: netip.MustParseAddrPort("127.0.0.1:8080")},
		{Name: "b", At: netip.MustParseAddrPort("[::]:8081"), Dual: true},
		{Name: "c", At: netip.MustParseAddrPort("0.0.0.0:8082")},
	}
	f.Fuzz(func(t *testing.T, b []byte, only bool) {
		at, ok := parseSockaddr(b)
		if !ok {
			return
		}
		name, why := match(at, at.Addr().Is6(), only, ls)
		if name != "" && why != "" {
			t.Errorf("%v: both %q and %q", at, name, why)
		}
		for _, l := range ls {
			if l.Name == name && l.At.Port() != at.Port() {
				t.Errorf("%v is given listener %s", at, name)
			}
		}
	})
}
