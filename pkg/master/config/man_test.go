package config

import (
	"fmt"
	"strings"
)

// man is the manual page masterd.yaml(5), made of [Keys], in the man macros.
func man() []byte {
	var m manPage
	m.raw(`.\" Made from the keys that masterd decodes by; change those, not this.`)
	m.raw(`.TH MASTERD.YAML 5 "" "masterd" "masterd"`)
	m.head("NAME")
	m.raw(`masterd.yaml \- configuration of a service run by masterd`)
	m.head("SYNOPSIS")
	m.raw(`.I /etc/masterd/masterd.yaml`)
	m.head("DESCRIPTION")
	m.text("One file in YAML describes one service: its listeners and the one program that is run. It is read when the " +
		"master starts and at every reload, and checked whole before anything is done with it: an unknown key, a value out " +
		"of range or a user that does not exist refuses the file, with line and reason, and what runs stays as it is. " +
		"\"masterd check\" does the same and shows what is in force.")
	m.text("Every command takes the file's name from --config, else from the environment variable MASTERD_CONFIG, else " +
		"/etc/masterd/masterd.yaml is read. The file is at most 1 MiB. Anchors, aliases and merge keys (<<) may be used; keys at the top that begin with x- are passed over, as places for anchors.")
	m.text("The least that is needed:")
	m.example("service: shop\nlisteners:\n  - name: http\n    address: tcp://127.0.0.1:8080\nworker:\n  command: [\"/srv/shop/bin/shop\"]")
	m.head("VALUES")
	for _, v := range [][2]string{
		{"duration", "A number with its unit, and several of these in a row: 200ms, 5m, 1h30m. Units are ns, us, ms, s, m and h. Only 0 needs no unit."},
		{"size", "A number with its unit: 128MiB, 1.5GB. Units are B; KiB, MiB, GiB, TiB (powers of 1024); kB, MB, GB, TB (powers of 1000). Only 0 needs no unit."},
		{"rate", "A size per second: 1MiB/s."},
		{"path", "A path; one that is relative is relative to the directory of the configuration file."},
		{"argument list", "A list of the program and its arguments. There is no shell: nothing is expanded. A program with a slash is a path, a bare name is looked up in the master's PATH."},
		{"argument lists", "A list of argument lists, run in order; one plain list of text is one argument list."},
		{"names and values", "A mapping. Names keep their case, values are taken as text as they are written."},
	} {
		m.item(v[0], v[1])
	}
	m.head("ENVIRONMENT")
	m.text("Single values (text, paths, numbers, durations, sizes, truth values) can be overridden by the environment of " +
		"masterd: MASTERD_ and the key in capitals, with _ for each dot. MASTERD_ROLLOUT_BAKE=10s overrides rollout.bake. An " +
		"empty variable is as none. Lists, mappings and the keys of listeners cannot be overridden. MASTERD_CONFIG is not a " +
		"key, but names the file. Other variables that look like keys are warned of.")
	m.head("VERSIONS")
	m.text("A version that is pinned keeps what says how its program is spoken to, checked and ended: the keys below of " +
		"which is said that they are kept with each version. A rollback to it brings them back, be it by hand, out of a crash " +
		"loop, or because what is configured does not start; so do replacements of its workers, and the next master. All " +
		"other keys belong to the service or to its safety and stay as they are in force: listeners, worker.processes, user, " +
		"group, limits, capabilities and no_new_privileges, how a rollout goes, and how long things may take.")
	m.text("A version keeps the settings that it has proved itself with at the end of its bake and, until it has, those that it was " +
		"last pinned with. They are no part of what makes it this version: its id stays the same. A listener is its address: " +
		"one that has got another name is called as the version knew it, in the order in which the version had them. One that " +
		"has moved to another address is found by its name. One that came after the version it does not get, and a check " +
		"of one that is gone goes to the first that it has.")
	m.text("A version that was kept by a masterd which did not know of this has no settings of its own, nor has one whose settings " +
		"cannot be used any more: today's are used then, and the rollback says so. \"masterd versions\" marks the first " +
		"(\"today's settings\"), \"masterd versions diff\" compares what two versions keep, and \"masterd versions list --json\" shows it.")
	m.head("KEYS")
	for _, k := range newSchema().keys {
		m.key(k)
	}
	m.head("FILES")
	m.item("/etc/masterd/masterd.yaml", "The configuration that is read when no other is named.")
	m.item("/run/masterd/NAME, /var/lib/masterd/NAME", "Runtime and state directories of a service whose master runs as root.")
	m.head("SEE ALSO")
	m.raw(`.BR masterd (8)`)
	return []byte(m.out.String())
}

type manPage struct{ out strings.Builder }

func (m *manPage) raw(line string)   { m.out.WriteString(line + "\n") }
func (m *manPage) head(title string) { m.raw(".SH " + title) }

// text writes a paragraph.
func (m *manPage) text(s string) {
	m.raw(".PP")
	m.raw(roff(s))
}

// item writes a term and its explanation.
func (m *manPage) item(term, s string) {
	m.raw(".TP")
	m.raw(".B " + roff(term))
	m.raw(roff(s))
}

// example writes lines as they are.
func (m *manPage) example(s string) {
	m.raw(".PP")
	m.raw(".RS 4")
	m.raw(".EX")
	for line := range strings.SplitSeq(s, "\n") {
		m.raw(roff(line))
	}
	m.raw(".EE")
	m.raw(".RE")
}

// key writes one key with all that is known of it.
func (m *manPage) key(k Key) {
	m.raw(".TP")
	m.raw(fmt.Sprintf(`\fB%s\fR (%s)`, roff(k.Path), roff(string(k.Type))))
	m.raw(roff(k.Meaning))
	var more []string
	if len(k.Allowed) > 0 && k.Type != Section {
		more = append(more, "One of "+strings.Join(k.Allowed, ", ")+".")
	}
	if k.Min != "" && k.Max != "" {
		more = append(more, fmt.Sprintf("From %s to %s%s.", k.Min, k.Max, spaced(k.Unit)))
	}
	if k.Default != "" {
		more = append(more, fmt.Sprintf("Default: %s.", k.Default))
	}
	if k.Versioned {
		more = append(more, "Kept with each version.")
	}
	if k.Restart {
		more = append(more, "A change needs a restart of masterd.")
	}
	more = append(more, "Since "+k.Since+".")
	if k.Example != "" {
		more = append(more, "Example: "+k.Example)
	}
	m.raw(".br")
	m.raw(roff(strings.Join(more, " ")))
}

func spaced(unit string) string {
	if unit == "" {
		return ""
	}
	return " " + unit
}

// roff escapes a line of text.
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`, `"`, `\(dq`, "'", `\(aq`, "^", `\(ha`, "~", `\(ti`, "`", `\(ga`).Replace(s)
	if strings.HasPrefix(s, ".") {
		s = `\&` + s
	}
	return s
}
