package main

import (
	"context"
	"fmt"
)

// Hands that know nginx, systemctl or docker type what these take. The first are understood,
// the others are told what to type here.

// asNginx are the verbs that "masterd -s" means, with what nginx means by it.
var asNginx = map[string][]string{
	"reload": {"reload"},
	"stop":   {"stop"},
	"quit":   {"stop", "--patient"},
}

// otherwise are words that are no verbs, and what is typed for them.
var otherwise = map[string]string{
	"start": `"masterd run" runs the service in the foreground, and "systemctl start masterd@NAME" has systemd start it`,
	"restart": `"masterd reload" starts new workers in the place of the old ones and loses no request, ` +
		`"masterd upgrade" replaces masterd itself; "systemctl restart masterd@NAME" ends everything and starts it again`,
	"ps": `"masterd status" shows the workers of a service, "masterd list" the services`,
}

// signal does what nginx does at "-s NAME".
func (a *app) signal(ctx context.Context, name string) error {
	which := a.which()
	if name == "reopen" {
		c, err := a.connect(ctx)
		if err != nil {
			return asExit(err, exitFailed)
		}
		pid, err := reopenLogs(ctx, c)
		if err != nil {
			return asExit(err, exitFailed)
		}
		_, err = fmt.Fprintf(a.out, "process %d opens its log files anew\n", pid)
		return err
	}
	verb := asNginx[name]
	if verb == nil {
		return exitf(exitUsage, "-s is %q; it can be reload, stop, quit or reopen", name)
	}
	if code := a.execute(ctx, append(append([]string{}, verb...), which...)); code != exitDone {
		return &exit{code: code} // all was said
	}
	return nil
}
