package operator

import (
	"fmt"
	"time"

	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/rollout"
	"github.com/masterd/masterd/pkg/master/version"
)

// fileDiffers tells how the configuration and the program on disk differ from what runs;
// empty: they do not, or it cannot be known. again says that just that was tried before, or is
// on its way: a canary may take hours.
// broken: the configuration on disk cannot be used.
func (b *Backend) fileDiffers(
	running *config.Config, v version.Version, again func(file *config.Config, digest string) (text string, known bool),
) (differs string, broken bool) {
	file, err := b.Generations.Reread()
	if err != nil {
		return "the configuration on disk cannot be used: " + err.Error(), true
	}
	changes := config.Diff(running.Base(), file)
	var own []config.Change // of a version with settings of its own
	if running.Base() != running {
		own = config.Diff(running, file)
	}
	digest := ""
	if v.Digest != "" {
		digest, err = b.Store.FileDigest(b.Loop.Life(), file.Worker.Command[0])
	}
	if err == nil && (len(changes) > 0 || len(own) > 0 || digest != v.Digest) {
		if text, known := again(file, digest); known {
			return text, false
		}
	}
	all := func(changes []config.Change) string {
		if n := len(changes); n > 1 {
			return fmt.Sprintf(" (%d keys in all)", n)
		}
		return ""
	}
	switch {
	case len(changes) > 0:
		return changes[0].Key + " changed on disk since it was loaded" + all(changes) +
			"; `masterd reload` takes it over", false
	case len(own) > 0:
		return own[0].Key + " is as version " + v.Label + " was run with, and not as it is on disk" + all(own) +
			"; `masterd reload` runs what is on disk", false
	case err != nil:
		return fmt.Sprintf("the program on disk cannot be read: %v; the pinned one runs", err), false
	case digest != v.Digest:
		return "the program on disk is not the one that runs; `masterd reload` rolls over to it", false
	}
	return "", false
}

// tried is what the last reload was to run. A master that took over knows of none.
type tried struct {
	rollout rollout.Rollout
	config  *config.Config
	digest  string // empty: it had not got so far
}

// again says that what is on disk and does not run is what was tried before, and what became
// of it; not known: it is not known to be that. since is when what runs got the traffic.
func (t tried) again(
	st rollout.Status, file *config.Config, digest string, since, now time.Time,
) (text string, known bool) {
	became := func(how string, at time.Time) (string, bool) {
		return fmt.Sprintf("on disk is what %s %s ago; `masterd reload` would try it again",
			how, now.Sub(at).Round(time.Second)), true
	}
	r, e, f := st.Rollout, st.Last, st.LastFailure
	switch same := t.config != nil && len(config.Diff(t.config, file)) == 0 && (t.digest == "" || t.digest == digest); {
	case r != nil && r.ID == t.rollout:
		return "", same // it is on its way
	case same && r != nil && r.What == "rollback":
		return became("was rolled back", since)
	case r != nil || e == nil:
	case same && e.Rollout == t.rollout && e.Code == rollout.Failed:
		return became("failed", e.At)
	case same && e.Rollout == t.rollout && e.Code == rollout.Superseded:
		return became("was given up", e.At)
	case same && e.Rollout == t.rollout && e.Code == rollout.RolledBack:
		return became("was rolled back", e.At)
	case same && e.Rollout > t.rollout && e.Code == rollout.Done && e.What != "start":
		return became("was rolled back", since)
	}
	if r == nil && t.config == nil && f != nil && digest != "" && f.Version.Digest == digest {
		return became("failed", f.At)
	}
	return "", false
}
