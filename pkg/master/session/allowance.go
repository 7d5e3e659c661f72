package session

import "time"

// allowance is how often something may be done: countsBurst times, and once more in each
// countsEvery. The zero value is a whole one. It is for one goroutine at a time.
type allowance struct {
	used int
	at   time.Time // up to when what was used has come back
}

// take reports whether it may be done now.
func (a *allowance) take(now time.Time) bool {
	if back := int(now.Sub(a.at) / countsEvery); back >= a.used {
		a.used, a.at = 0, now
	} else if back > 0 {
		a.used -= back
		a.at = a.at.Add(time.Duration(back) * countsEvery)
	}
	if a.used >= countsBurst {
		return false
	}
	a.used++
	return true
}
