package operator

import "testing"

func TestLockAdvice(t *testing.T) {
	for line, want := range map[string]bool{
		"opening the data: lock /srv/data: resource temporarily unavailable": true,
		"database is locked":                             true,
		"Cannot create lockfile":                         true,
		"another instance is running":                    true,
		"server already running, PID 12":                 true,
		"the clock is wrong, and the disk blocks":        false,
		"panic: nil map":                                 false,
		"listening on 127.0.0.1:80 blocked by the clock": false,
		"": false,
	} {
		if got := lockAdvice([]string{"starting", line}) != ""; got != want {
			t.Errorf("%q: %v", line, got)
		}
	}
}
