package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// writeManual writes masterd(8): verbs and flags from the tree of commands, the
// rest from here.
func writeManual(root *cobra.Command) string {
	m := &manual{}
	m.line(`.TH MASTERD 8 "" "masterd" "System administration"`)
	m.section("NAME")
	m.line(`masterd \- ` + roff(lowerFirst(root.Short)))
	m.section("SYNOPSIS")
	m.line(`.B masterd`)
	m.line(`[\fB\-\-config\fR \fIFILE\fR] [\fB\-\-strict\fR]`)
	m.line(".br")
	m.line(`.B masterd`)
	m.line(`\fIverb\fR [\fIargument\fR...] [\fIflag\fR...]`)
	m.section("DESCRIPTION")
	m.text(root.Long)
	m.section("OPTIONS")
	m.flags(root.LocalFlags())
	m.line(".PP")
	m.line(`Every verb takes \fB\-\-config\fR and \fB\-\-help\fR.`)
	for _, g := range root.Groups() {
		m.section(strings.ToUpper(strings.TrimSuffix(g.Title, ":")))
		for _, c := range root.Commands() {
			if c.GroupID == g.ID && !c.Hidden && c.Name() != "help" {
				m.verb(c)
			}
		}
	}
	for _, s := range manualSections() {
		m.section(s.title)
		for _, e := range s.entries {
			m.line(".TP")
			m.line(".B " + roff(e.name))
			m.text(e.text)
		}
		m.text(s.text)
	}
	return m.b.String()
}

// manual is the page while it is being written.
type manual struct{ b strings.Builder }

func (m *manual) line(s string) { m.b.WriteString(s + "\n") }

func (m *manual) section(title string) { m.line(`.SH "` + roff(title) + `"`) }

// text writes paragraphs; indented lines stay as they are.
func (m *manual) text(s string) {
	literal, fresh := false, true
	for _, l := range strings.Split(s, "\n") {
		indented := strings.HasPrefix(l, "  ")
		switch {
		case l == "":
			fresh = true
			continue
		case indented && !literal:
			m.line(".PP\n.nf")
		case !indented && literal:
			m.line(".fi\n.PP")
		case fresh && !literal && m.b.Len() > 0 && !strings.HasPrefix(s, l):
			m.line(".PP")
		}
		literal, fresh = indented, false
		m.line(roff(l))
	}
	if literal {
		m.line(".fi")
	}
}

// verb writes one, and those beneath it.
func (m *manual) verb(c *cobra.Command) {
	m.line(`.SS "` + roff(c.UseLine()) + `"`)
	long := c.Long
	if long == "" {
		long = c.Short + "."
	}
	m.text(long)
	m.flags(c.LocalNonPersistentFlags())
	for _, sub := range c.Commands() {
		if !sub.Hidden {
			m.verb(sub)
		}
	}
}

func (m *manual) flags(set *pflag.FlagSet) {
	set.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		value, usage := pflag.UnquoteUsage(f)
		name := `\fB\-\-` + roff(f.Name) + `\fR`
		if f.Shorthand != "" {
			name = `\fB\-` + roff(f.Shorthand) + `\fR, ` + name
		}
		if value != "" {
			name += ` \fI` + roff(value) + `\fR`
		}
		m.line(".TP")
		m.line(name)
		usage = strings.ToUpper(usage[:1]) + usage[1:]
		if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "0" && f.DefValue != "0s" {
			usage += fmt.Sprintf(" (default %s)", f.DefValue)
		}
		m.line(roff(usage) + ".")
	})
}

// roff makes text literal.
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`, "`", "\\`").Replace(s)
	if strings.HasPrefix(s, ".") || strings.HasPrefix(s, "'") {
		s = `\&` + s
	}
	return s
}

func lowerFirst(s string) string { return strings.ToLower(s[:1]) + s[1:] }

// manualSection is one that does not come from the commands.
type manualSection struct {
	title   string
	entries []manualEntry
	text    string
}

type manualEntry struct{ name, text string }

func manualSections() []manualSection {
	return []manualSection{
		{title: "WHICH SERVICE", text: `A verb that talks to a running master finds it by --service; else by the
configuration file that --config or MASTERD_CONFIG names, even if that file is
broken by now; else by the default file; else it takes the only service of the
user's that runs. If there are several it names them and does nothing.`},
		{title: "EXIT STATUS", entries: []manualEntry{
			{"0", "Done, or accepted with --detach."},
			{"1", "Failed; nothing has changed."},
			{"2", "Wrong usage or configuration."},
			{"3", "No master is running there; after upgrade: not any more, and the workers serve on."},
			{"4", "It had the traffic, and was rolled back."},
			{"5", "Refused by a hold, or superseded by another request."},
			{"6", "The outcome is unknown: the connection to the master broke, --timeout ended the wait, or a check has not passed at the end of the bake. What was asked for goes on in the master."},
			{"7", "import: written, but something was not carried over, or is left to do."},
		}, text: `
The verb status has codes of its own, after the LSB: 0 serving, 1 not as it
should be, 3 not running, 4 unknown.`},
		{title: "SIGNALS", entries: []manualEntry{
			{"HUP", "Read the configuration and roll over."},
			{"USR2", "Roll over with the configuration in force."},
			{"USR1", "Reopen log files."},
			{"QUIT", "Drain and stop, without a deadline."},
			{"TERM, INT", "Drain and stop within stop_timeout; a second one ends it now."},
		}},
		{title: "ENVIRONMENT", entries: []manualEntry{
			{"MASTERD_CONFIG", "The configuration file, if --config does not name one."},
			{"MASTERD_...", "Override single settings; see masterd.yaml(5)."},
			{"COLUMNS", "How wide pages may be when the output is not a terminal, at most 100."},
			{"NO_COLOR", "If set, nothing is coloured."},
			{"XDG_RUNTIME_DIR, TMPDIR", "Where services of ordinary users have their runtime directories."},
			{"XDG_STATE_HOME", "Where they have their state directories."},
			{"SUDO_USER", "Goes into the history beside root."},
			{"MASTERD_STARTED_AS", "By which path masterd was started: set by one masterd for the next, at an upgrade, and by nobody else."},
			{"NOTIFY_SOCKET, WATCHDOG_USEC", "Set by systemd(1) and not passed on to workers."},
		}},
		{title: "FILES", entries: []manualEntry{
			{"/etc/masterd/masterd.yaml", "The default configuration."},
			{"/run/masterd/NAME/admin.sock", "Where the master of a service of root's answers; under $XDG_RUNTIME_DIR/masterd-UID or ~/.local/state/masterd/.run for other users, and under /tmp/masterd-UID only without a home directory that can be written to. It speaks HTTP: see GET /v1/openapi.yaml."},
			{"/run/masterd/.services", "Where services with a runtime_dir of their own are, so that verbs find them when their configuration is broken or gone; for other users in the same places as above."},
			{"STATE_DIR/last-good-*.yaml", "The configuration that was last taken into force: what a start falls back to."},
			{"/var/lib/masterd/NAME", "Pinned versions and history of a service of root's; under $XDG_STATE_HOME/masterd or ~/.local/state/masterd for other users."},
		}},
		{title: "UNITS", text: `masterd.service runs the service of the default configuration, masterd@NAME.service
that of /etc/masterd/NAME.yaml. Workers outlive a master that was killed; the next
one takes them over. Once a unit is down for good masterd-sweep@UNIT.service ends
who is left of it.`},
		{title: "EXAMPLES", text: `
  masterd check --config shop.yaml
  masterd reload --label v1.3.0 --reason "new basket"
  masterd reload --until baked --timeout 10m
  masterd reload --confirm 10m && run-the-tests && masterd promote
  masterd rollback --reason "checkout is slow"
  masterd status --watch
  masterd logs -f --worker 12
  curl --unix-socket /run/masterd/shop/admin.sock http://masterd/v1/status
`},
		{title: "SEE ALSO", text: "masterd.yaml(5), systemd.service(5)"},
	}
}
