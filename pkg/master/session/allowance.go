package session

import "time"

// allowance bounds how often something is done: so many times, and once more in each span of
// time. The zero value is a whole one. It is for one goroutine at a time.
type allowance struct {
	used int
	at   time.Time // up to when what was used has come back
}

// take reports whether it may be done now.
func (a *allowance) take(now time.Time, most int, again time.Duration) bool {
	if back := int(now.Sub(a.at) / again); back >= a.used {
		a.used, a.at = 0, now
	} else if back > 0 {
		a.used -= back
		a.at = a.at.Add(time.Duration(back) * again)
	}
	if a.used >= most {
		return false
	}
	a.used++
	return true
}
