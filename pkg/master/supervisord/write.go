package supervisord

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// write writes the configuration.
func (p *Program) write(from string) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("# %s of %s, by masterd import.", comment(p.Name), comment(from))
	for _, n := range p.Notes {
		if n.Open && n.Key != "listeners" { // of those there is a TODO below
			line("# Not carried over: %s: %s", comment(n.Key), comment(n.Text))
		}
	}
	line("service: %s", p.Service)
	p.writeListeners(line)
	line("worker:")
	switch {
	case p.preset != nil:
		line("  preset: %s", p.preset.preset)
	case p.listens != "":
		line("  # As it is: its bind of a listener's address gets it the socket. \"sdk\" is for programs")
		line("  # that have masterd's worker package, \"socket-activation\" for those that take LISTEN_FDS.")
		line("  kind: unmodified")
	default:
		line("  # As it is: without masterd's worker package. Should it listen by itself: kind: unmodified")
		line("  kind: socket-activation")
	}
	var args []string
	for _, a := range p.command {
		args = append(args, quote(a))
	}
	line("  command: [%s]", strings.Join(args, ", "))
	if p.preset != nil && p.preset.pinPath {
		line("  pin: path # it is not one file")
	}
	if p.directory != "" {
		line("  directory: %s", quote(p.directory))
	}
	if p.user != "" {
		line("  user: %s", quote(p.user))
	}
	if p.processes > 1 {
		line("  processes: %d", p.processes)
	}
	if p.nofile > 0 {
		line("  limits: {nofile: %d}", p.nofile)
	}
	if p.signal != "" {
		line("  stop_signal: %s", p.signal)
	}
	if len(p.env) > 0 {
		line("  env:")
		for _, name := range slices.Sorted(maps.Keys(p.env)) {
			line("    %s: %s", quote(name), quote(p.env[name]))
		}
	}
	line("drain: {timeout: %ds} # supervisord's stopwaitsecs", int(p.wait.Seconds()))
	line("stop_timeout: %ds", int(p.wait.Seconds()))
	return b.String()
}

// writeListeners writes where the program is to listen. An address that is in the
// file is used; a person has to look at it, for a flag's meaning is a guess.
func (p *Program) writeListeners(line func(format string, args ...any)) {
	if p.listens == "" {
		line("# If it listens somewhere, say so: see listeners in masterd.yaml(5).")
		line("listeners: []")
		return
	}
	line("# TODO: it seems to listen (%s).", comment(p.listens))
	line("# masterd opens the sockets, and gives them to each version. Look whether this is its address:")
	if p.preset != nil && p.preset.hint != "" {
		line("# %s.", comment(p.preset.hint))
	}
	if p.address == "" {
		line("# listeners:")
		line("#   - {name: http, address: %s}", quote("tcp://127.0.0.1:8080"))
		line("listeners: []")
		return
	}
	line("listeners:")
	line("  - {name: http, address: %s}", quote(listener(p.address)))
}

func listener(address string) string { return "tcp://" + strings.Replace(address, "*", "", 1) }

var plain = regexp.MustCompile(`^[A-Za-z/_.][A-Za-z0-9/_.-]*$`)

// quote writes a text so that YAML reads it as text: in JSON, unless it is
// plainly none of YAML's other things.
func quote(s string) string {
	if plain.MatchString(s) && !slices.Contains([]string{"true", "false", "yes", "no", "on", "off", "null", "y", "n", "nan", "inf"}, strings.ToLower(strings.TrimPrefix(s, "."))) && s != "." {
		return s
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // a text always can be
	return strings.TrimSuffix(b.String(), "\n")
}

// comment makes a text fit for one line.
func comment(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == 0x85 || r == 0x2028 || r == 0x2029 {
			return ' '
		}
		return r
	}, s)
}
