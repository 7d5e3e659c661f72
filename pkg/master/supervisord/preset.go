package supervisord

import (
	"path/filepath"
	"slices"
	"strings"
)

// known is a server that masterd has a preset for.
type known struct {
	preset  string // the name of its program too, but for numbers of versions
	pinPath bool   // it is not one file, so its path is what is run
	hint    string // what else it needs to take the socket; empty: nothing
}

// presets are those of worker.preset; a test holds them together.
var presets = []known{
	{"gunicorn", true, ""},
	{"uvicorn", true, "in worker.command write --fd {fd:http} in the place of --host and --port"},
	{"node", true, ""},
	{"nginx", true, "its own listen directive has the same address"},
	{"caddy", false, "its own configuration has the same address"},
	{"puma", true, "its own bind has the same address"},
	{"haproxy", false, "have it bind fd@${HTTP_FD}, and worker.env say HTTP_FD: \"{fd:http}\""},
	{"php-fpm", false, "its own listen directive has the same address"},
	{"apache", true, "its own Listen has the same address, and -C \"PidFile /run/httpd-{worker}.pid\" gives each worker a PID file"},
	{"lighttpd", true, "its own server.port has the same port, and each worker needs a server.pid-file of its own, or none"},
	{"php", true, ""},
	{"tomcat", true, "the Connector in its server.xml has the same address, and its Server has port=\"-1\""},
}

// recognise finds the preset for a program, by the names of it and of what it is
// told to run. The preset knows the server's signals better than a file for a
// manager that has only one.
func (p *Program) recognise() {
	if len(p.command) == 0 {
		return
	}
	name := program(p.command[0])
	// A module, a script of a virtual environment, or what Bundler runs.
	switch rest := p.command[1:]; {
	case name == "python" && len(rest) > 1 && rest[0] == "-m", name == "bundle" && len(rest) > 1 && rest[0] == "exec":
		name = program(rest[1])
	case name == "python" && len(rest) > 0:
		name = program(rest[0])
	}
	for i := range presets {
		if presets[i].preset == name && (name != "php" || slices.Contains(p.command, "-S")) { // else it is a script
			p.preset = &presets[i]
		}
	}
	if p.preset == nil {
		return
	}
	p.say("preset", "is %s: what masterd knows of this server", p.preset.preset)
	if p.signal != "" {
		p.say("stopsignal", "the preset knows which signals have it finish and end")
		p.signal = ""
	}
	if p.listens == "" {
		p.listens = "it is " + p.preset.preset
	}
}

// program is the name of a program without its version: php8.2-fpm is php-fpm.
func program(path string) string {
	name := strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r == '.' {
			return -1
		}
		return r
	}, strings.TrimSuffix(filepath.Base(path), ".sh"))
	switch name {
	case "nodejs":
		return "node"
	case "httpd":
		return "apache"
	case "catalina", "tomcat-start":
		return "tomcat"
	}
	return name
}
