package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/masterd/masterd/pkg/master/sweep"
)

// askTimeout bounds one question to systemd.
const askTimeout = 10 * time.Second

// sweepAfter is ExecStopPost=. RestartPreventExitStatus= in the unit says the
// same as this: what is not restarted is swept.
func (a *app) sweepAfter(grace time.Duration) error {
	if a.env("SERVICE_RESULT") == "" {
		return exitf(exitUsage, "sweep is for ExecStopPost= in a unit (SERVICE_RESULT is not set); to stop a service use systemctl stop, or masterd stop")
	}
	how, status := a.env("EXIT_CODE"), a.env("EXIT_STATUS")
	// Nothing is known of a master that was never started: ExecStart= failed to
	// be run. Nobody is there but who was before.
	final := how == "exited" && (status == "0" || status == "2")
	if !final {
		fmt.Fprintf(a.err, "masterd: the master has ended (%s %s), another one is to come: workers and keeper are left alone\n", clean(how), clean(status))
		return nil
	}
	g, err := sweep.Own()
	if err != nil {
		return exitf(exitFailed, "sweeping: %v", err)
	}
	return a.sweep(g, grace, nil)
}

// sweepUnit is for OnSuccess= and OnFailure=: systemd tells of every end there,
// and of the stop in each restart. It is asked whether this one is for good.
func (a *app) sweepUnit(unit string, grace time.Duration) error {
	first, err := showUnit(unit)
	if err != nil {
		return exitf(exitFailed, "sweeping after %s: %v", unit, err)
	}
	path := first["ControlGroup"]
	if path == "" && first["Slice"] != "" { // it went with the last process; workers in scopes may be left
		slice, err := showUnit(first["Slice"])
		if err != nil {
			return exitf(exitFailed, "sweeping after %s: %v", unit, err)
		}
		path = filepath.Join(slice["ControlGroup"], first["Id"])
	}
	if path == "" || path == "/" {
		return nil
	}
	g, err := sweep.UnitGroup(path)
	if err != nil {
		return exitf(exitFailed, "sweeping after %s: %v", unit, err)
	}
	// Who is there now, and then whether the unit is down: a master that starts
	// after the question is none of them.
	left, err := sweep.Left(g)
	if err != nil {
		return exitf(exitFailed, "sweeping after %s: %v", unit, err)
	}
	if len(left) == 0 {
		return nil
	}
	now, err := showUnit(unit)
	if err != nil {
		return exitf(exitFailed, "sweeping after %s: %v", unit, err)
	}
	down := now["ActiveState"] == "inactive" || now["ActiveState"] == "failed"
	coming := now["Job"] != "" && now["Job"] != "0"
	if !down || coming {
		return nil
	}
	return a.sweep(g, grace, left)
}

func (a *app) sweep(g sweep.Group, grace time.Duration, only []int) error {
	asked, killed, err := sweep.End(g, grace, only)
	if err != nil {
		return exitf(exitFailed, "sweeping: %v", err)
	}
	if asked+killed > 0 {
		fmt.Fprintf(a.err, "masterd: swept %s: %d processes were asked to end, %d were killed after %s\n", clean(g.String()), asked, killed, grace)
	}
	return nil
}

// showUnit asks systemd, by the tool that is there wherever it is.
func showUnit(unit string) (map[string]string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, "systemctl", "show", "--property=ActiveState,ControlGroup,Id,Job,Slice", "--", unit).Output()
	if err != nil {
		return nil, fmt.Errorf("systemctl show: %w", err)
	}
	values := map[string]string{}
	for line := range strings.Lines(string(out)) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			values[key] = value
		}
	}
	return values, nil
}
