package config

import "testing"

// What is required is another's as long as connecting to it cannot reach the listener.
func TestListenerHas(t *testing.T) {
	for _, test := range []struct {
		network, host, at string
		want              bool
	}{
		{"tcp", "192.0.2.10", "192.0.2.10:80", true},
		{"tcp", "192.0.2.10", "localhost:80", false},
		{"tcp", "192.0.2.10", "127.0.0.1:80", false},
		{"tcp", "192.0.2.10", "192.0.2.10:81", false},
		{"tcp", "127.0.0.1", "localhost:80", true},
		{"tcp", "127.0.0.1", "[::1]:80", false},
		{"tcp6", "::1", "localhost:80", true},
		{"tcp6", "::1", "127.0.0.1:80", false},
		{"tcp", "", "localhost:80", true},
		{"tcp", "", "127.0.0.1:80", true},
		{"tcp", "", "[::1]:80", true},
		{"tcp", "", "192.0.2.10:80", false}, // it may be another machine's
		{"tcp", "::", "127.0.0.1:80", true},
		{"tcp6", "::", "127.0.0.1:80", false},
		{"tcp6", "::", "[::1]:80", true},
		{"tcp4", "", "[::1]:80", false},
		{"tcp", "0.0.0.0", "[::1]:80", false},
		{"tcp", "0.0.0.0", "127.0.0.1:80", true},
		{"tcp", "0.0.0.0", "localhost:80", true},
	} {
		if got := (Listener{Network: test.network, Host: test.host, Port: 80}).has(test.at); got != test.want {
			t.Errorf("%s %q, %s: %v", test.network, test.host, test.at, got)
		}
	}
}
