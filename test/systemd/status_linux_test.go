package systemd

import (
	"context"
	"strings"

	"github.com/masterd/masterd/pkg/api"
)

// status is what the master says of itself.
func (u *unit) status() (api.Status, error) {
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	service, _, _ := strings.Cut(strings.TrimPrefix(u.extra, "service: "), "\n")
	return api.NewClient(u.path("/run/masterd/"+service+"/admin.sock"), "").Status(ctx)
}

// baked waits until the active generation has proved itself.
func (u *unit) baked() {
	u.t.Helper()
	u.eventually("the end of the bake", func() (bool, string) {
		st, err := u.status()
		if err != nil {
			return false, err.Error()
		}
		return st.Active != nil && st.Active.Baked && st.Rollout == nil, st.State
	})
}

// pulsed waits until systemd has heard the watchdog's next beat.
func (u *unit) pulsed() {
	u.t.Helper()
	first := u.show("WatchdogTimestampMonotonic")
	u.eventually("a beat", func() (bool, string) {
		now := u.show("WatchdogTimestampMonotonic")
		return now != first, now
	})
}
