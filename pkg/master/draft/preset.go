package draft

import (
	"path/filepath"
	"slices"
	"strings"
)

// Preset is a server that masterd has a preset for.
type Preset struct {
	Name    string // of worker.preset, and of its program but for numbers of versions
	PinPath bool   // it is not one file, so its path is what is run
	Hint    string // what else it needs to take the socket; empty: nothing
	address string // where it listens if nothing else is said; empty: there is no such place
	// places: its own configuration must name the listener's address, or it binds it.
	places bool
}

// presets are those of worker.preset; a test holds them together.
var presets = []Preset{
	{"gunicorn", true, "", "127.0.0.1:8000", false},
	{"uvicorn", true, "in worker.command write --fd {fd:http} in the place of --host and " +
		"--port", "127.0.0.1:8000", false},
	{"node", true, "", "", true},
	{"nginx", true, "its own listen directive has the same address", ":80", true},
	{"caddy", false, "its own configuration has the same address", ":80", true},
	{"puma", true, "its own bind has the same address", "0.0.0.0:9292", true},
	{"haproxy", false, "have it bind fd@${HTTP_FD}, and worker.env say HTTP_FD: \"{fd:http}\"", "", true},
	{"php-fpm", false, "its own listen directive has the same address", "127.0.0.1:9000", true},
	{"apache", true, "its own Listen has the same address, and -C \"PidFile /run/httpd-{worker}.pid\" gives each " +
		"worker a PID file", ":80", true},
	{"lighttpd", true, "its own server.port has the same port, and each worker needs a server.pid-file of its " +
		"own, or none", ":80", true},
	{"php", true, "", "", true},
	{"tomcat", true, "the Connector in its server.xml has the same address, and its Server has " +
		"port=\"-1\"", ":8080", true},
	{"redis", false, "its own port is the listener's, and --loading-process-events-interval-bytes 2147483647 has " +
		"clients wait while it reads its data", "127.0.0.1:6379", true},
}

// PresetOf finds the preset for a program, by the names of it and of what it is told to
// run; nil: there is none.
func PresetOf(command []string) *Preset {
	if len(command) == 0 {
		return nil
	}
	name := programName(command[0])
	// A module, a script of a virtual environment, or what Bundler runs.
	switch rest := command[1:]; {
	case name == "python" && len(rest) > 1 && rest[0] == "-m", name == "bundle" && len(rest) > 1 && rest[0] == "exec":
		name = programName(rest[1])
	case name == "python" && len(rest) > 0:
		name = programName(rest[0])
	}
	for i := range presets {
		if presets[i].Name == name && (name != "php" || slices.Contains(command, "-S")) { // else it is a script
			return &presets[i]
		}
	}
	return nil
}

// programName is the name of a program without its version: php8.2-fpm is php-fpm.
func programName(path string) string {
	name := strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r == '.' {
			return -1
		}
		return r
	}, strings.TrimSuffix(filepath.Base(path), ".sh"))
	switch name {
	case "nodejs":
		return "node"
	case "redis-server":
		return "redis"
	case "httpd":
		return "apache"
	case "catalina", "tomcat-start":
		return "tomcat"
	}
	return name
}
