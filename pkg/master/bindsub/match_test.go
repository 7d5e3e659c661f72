package bindsub

import (
	"net/netip"
	"strings"
	"testing"
)

func TestMatch(t *testing.T) {
	at := netip.MustParseAddrPort
	local := Listener{Name: "local", At: at("127.0.0.1:80")}
	all4 := Listener{Name: "all4", At: at("0.0.0.0:80")}
	all6 := Listener{Name: "all6", At: at("[::]:80")}
	dual := Listener{Name: "dual", At: at("[::]:80"), Dual: true}
	six := Listener{Name: "six", At: at("[::1]:80")}
	const (
		no      = ""
		refused = "!"
	)
	for _, c := range []struct {
		bind   string
		v6only bool
		ls     []Listener
		want   string
	}{
		// A program's ":80" is a dual-stack socket; so are those of Go, Node and Java.
		{"[::]:80", false, []Listener{local}, "local"},
		{"[::]:80", false, []Listener{all4}, "all4"},
		{"[::]:80", false, []Listener{all6}, "all6"},
		{"[::]:80", false, []Listener{dual}, "dual"},
		{"[::]:80", false, []Listener{six}, "six"},
		{"[::]:80", true, []Listener{dual}, "dual"},
		{"[::]:80", true, []Listener{all4}, no},
		{"[::]:80", true, []Listener{local}, no},
		{"[::]:80", true, []Listener{six}, "six"},
		{"0.0.0.0:80", false, []Listener{local}, "local"},
		{"0.0.0.0:80", false, []Listener{all4}, "all4"},
		{"0.0.0.0:80", false, []Listener{dual}, "dual"},
		{"0.0.0.0:80", false, []Listener{all6}, no},
		{"0.0.0.0:80", false, []Listener{six}, no},
		{"127.0.0.1:80", false, []Listener{local}, "local"},
		{"[::ffff:127.0.0.1]:80", false, []Listener{local}, "local"},
		{"127.0.0.1:80", false, []Listener{all4}, refused},
		{"127.0.0.1:80", false, []Listener{dual}, refused},
		{"127.0.0.1:80", false, []Listener{all6}, no},
		{"10.1.2.3:80", false, []Listener{local}, no},
		{"[::1]:80", false, []Listener{dual}, refused},
		{"[::1]:80", false, []Listener{six}, "six"},
		{"127.0.0.1:81", false, []Listener{local, dual}, no},
		{"0.0.0.0:0", false, []Listener{local}, no},

		// Several on one port.
		{"0.0.0.0:80", false, []Listener{all4, all6}, "all4"},
		{"[::]:80", true, []Listener{all4, all6}, "all6"},
		{"[::]:80", false, []Listener{all4, all6}, refused}, // one socket cannot be both
		{"[::]:80", true, []Listener{all4, dual}, "dual"},
		{"0.0.0.0:80", false, []Listener{local, {Name: "other", At: at("127.0.0.2:80")}}, refused},
		{"127.0.0.1:80", false, []Listener{local, six}, "local"},
	} {
		addr := at(c.bind)
		got, why := match(addr, addr.Addr().Is6(), c.v6only, c.ls)
		switch {
		case c.want == refused:
			if got != "" || why == "" {
				t.Errorf("%s (v6only %v) of %v: %q, %q, want a refusal", c.bind, c.v6only, c.ls, got, why)
			}
		case got != c.want || why != "":
			t.Errorf("%s (v6only %v) of %v: %q, %q, want %q", c.bind, c.v6only, c.ls, got, why, c.want)
		}
	}
}

func TestReasonsSayWhatToDo(t *testing.T) {
	at := netip.MustParseAddrPort
	_, why := match(at("127.0.0.1:8080"), false, false, []Listener{{Name: "http", At: at("[::]:8080"), Dual: true}})
	if !strings.Contains(why, "listener http is tcp://:8080") || !strings.Contains(why, "configure tcp://127.0.0.1:8080") {
		t.Error(why)
	}
	why = call{at: at("[::]:9090"), six: true, dual: true}.refuseRival("pid 12 (shop), worker 3 of generation 2,")
	if !strings.Contains(why, `{name: side-9090, address: "tcp://:9090"}`) || !strings.Contains(why, "pid 12 (shop)") {
		t.Error(why)
	}
	why = waits([]Listener{{Name: "http", At: at("127.0.0.1:8080")}}, []string{"0.0.0.0:9999"})
	if why != "it has not bound tcp://127.0.0.1:8080 (listener http); it listens on 0.0.0.0:9999 instead" {
		t.Error(why)
	}
}

// match is what a bind to an address by such a socket gets.
func match(at netip.AddrPort, six, v6only bool, all []Listener) (listener, refusal string) {
	c := call{at: netip.AddrPortFrom(at.Addr().Unmap(), at.Port()), six: six}
	c.dual = six && !v6only && at.Addr() == netip.IPv6Unspecified()
	return c.match(all)
}
