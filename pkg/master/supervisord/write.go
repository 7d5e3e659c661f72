package supervisord

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/masterd/masterd/pkg/master/draft"
)

// write writes the configuration.
func (p *Program) write(from string) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("# %s of %s, by masterd import.", draft.Comment(p.Name), draft.Comment(from))
	for _, n := range p.Notes {
		if n.Open && n.Key != "listeners" { // of those there is a TODO below
			line("# Not carried over: %s: %s", draft.Comment(n.Key), draft.Comment(n.Text))
		}
	}
	line("service: %s", p.Service)
	p.writeListeners(line)
	line("worker:")
	switch {
	case p.preset != nil:
		line("  preset: %s", p.preset.Name)
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
		args = append(args, draft.Quote(a))
	}
	line("  command: [%s]", strings.Join(args, ", "))
	if p.preset != nil && p.preset.PinPath {
		line("  pin: path # it is not one file")
	}
	if p.directory != "" {
		line("  directory: %s", draft.Quote(p.directory))
	}
	if p.user != "" {
		line("  user: %s", draft.Quote(p.user))
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
			line("    %s: %s", draft.Quote(name), draft.Quote(p.env[name]))
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
	line("# TODO: it seems to listen (%s).", draft.Comment(p.listens))
	line("# masterd opens the sockets, and gives them to each version. Look whether this is its address:")
	if p.preset != nil && p.preset.Hint != "" {
		line("# %s.", draft.Comment(p.preset.Hint))
	}
	if p.address == "" {
		line("# listeners:")
		line("#   - {name: http, address: %s}", draft.Quote("tcp://127.0.0.1:8080"))
		line("listeners: []")
		return
	}
	line("listeners:")
	line("  - {name: http, address: %s}", draft.Quote(draft.Listener(p.address)))
}
