package operator

import (
	"regexp"
	"strings"

	"github.com/masterd/masterd/pkg/master/rollout"
)

// ofLocks is what programs say that find what they need taken by another process.
var ofLocks = regexp.MustCompile(`(?i)\block(s|ed|ing|file)?\b|already running|already in use|` +
	`resource temporarily unavailable|another (instance|process)`)

// lockAdvice is for a version that ended at its start while another one served: said its last
// lines something of a lock, the two may not be able to live at one time. Empty: they did not.
func lockAdvice(lines []string) string {
	if !ofLocks.MatchString(strings.Join(lines, "\n")) {
		return ""
	}
	return " Its last lines speak of something that another process has, and the version before lives: " +
		"if two of them cannot live at one time, set rollout.surge: replace."
}

// besides reports whether a reply tells of a version that did not start beside another one.
func (b *Backend) besides(r rollout.Reply) bool {
	g := b.Generations.Get(r.Generation)
	return r.Code == rollout.Failed && r.Stage == rollout.StageStart && b.Master.Machine().Serving &&
		g != nil && g.Config.Rollout.Surge != "replace"
}
