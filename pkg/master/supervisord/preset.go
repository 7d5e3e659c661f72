package supervisord

import (
	"path/filepath"
	"regexp"
	"slices"
)

// known is a server that masterd has a preset for.
type known struct {
	preset  string
	program *regexp.Regexp // matches the name of its program
	module  bool           // it is run by python -m as well
	pinPath bool           // it is not one file, so its path is what is run
	hint    string         // what else it needs to take the socket; empty: nothing
}

var (
	python = regexp.MustCompile(`^python[0-9.]*$`)
	bundle = regexp.MustCompile(`^bundle[0-9.]*$`)
)

// presets are those of worker.preset; a test holds them together.
var presets = []known{
	{"gunicorn", regexp.MustCompile(`^gunicorn[0-9.]*$`), true, true, ""},
	{"uvicorn", regexp.MustCompile(`^uvicorn$`), true, true, "in worker.command write --fd {fd:http} in the place of --host and --port"},
	{"node", regexp.MustCompile(`^(node|nodejs)$`), false, true, ""},
	{"nginx", regexp.MustCompile(`^nginx$`), false, true, "its own listen directive has the same address"},
	{"caddy", regexp.MustCompile(`^caddy$`), false, false, "its own configuration has the same address"},
	{"puma", regexp.MustCompile(`^puma$`), false, true, "its own bind has the same address"},
	{"haproxy", regexp.MustCompile(`^haproxy$`), false, false, "have it bind fd@${HTTP_FD}, and worker.env say HTTP_FD: \"{fd:http}\""},
	{"php-fpm", regexp.MustCompile(`^php([0-9.]*-fpm|-fpm[0-9.]*)$`), false, false, "its own listen directive has the same address"},
}

// recognise finds the preset for a program, by the names of it and of what it is
// told to run. The preset knows the server's signals better than a file for a
// manager that has only one.
func (p *Program) recognise() {
	if len(p.command) == 0 {
		return
	}
	name, module := filepath.Base(p.command[0]), ""
	switch {
	case python.MatchString(name) && len(p.command) > 2 && p.command[1] == "-m":
		module = p.command[2]
	case python.MatchString(name) && len(p.command) > 1:
		name = filepath.Base(p.command[1]) // a script of a virtual environment
	case bundle.MatchString(name) && len(p.command) > 2 && p.command[1] == "exec":
		name = filepath.Base(p.command[2])
	}
	i := slices.IndexFunc(presets, func(k known) bool { return k.program.MatchString(name) || k.module && k.preset == module })
	if i < 0 {
		return
	}
	p.preset = &presets[i]
	p.say("preset", "is %s: what masterd knows of this server", p.preset.preset)
	if p.signal != "" {
		p.say("stopsignal", "the preset knows which signals have it finish and end")
		p.signal = ""
	}
	if p.listens == "" {
		p.listens = "it is " + p.preset.preset
	}
}
