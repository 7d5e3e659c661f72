package supervisord

import (
	"fmt"
	"maps"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/draft"
)

// Result is all that a file comes to.
type Result struct {
	Programs []*Program
	Notes    []Note // of sections that are no programs
}

// Open tells whether anything is lost, or is to be done by a person.
func (r *Result) Open() bool {
	open := func(notes []Note) bool {
		for _, n := range notes {
			if n.Open {
				return true
			}
		}
		return false
	}
	for _, p := range r.Programs {
		if open(p.Notes) {
			return true
		}
	}
	return open(r.Notes)
}

// Import reads supervisord's configuration and makes one of masterd's for each
// program. env is what %(ENV_NAME)s is taken from, a list as from os.Environ.
// Each is checked as the master would, but for what host says.
func Import(path string, env []string, host config.Host) (*Result, error) {
	d, err := read(path)
	if err != nil {
		return nil, err
	}
	r := &Result{}
	in := r.inherit(d, env)
	taken := map[string]bool{}
	for _, s := range d.sections {
		kind, name, _ := strings.Cut(s.name, ":")
		name = strings.TrimSpace(name)
		if kind != "program" && kind != "fcgi-program" {
			continue
		}
		for _, p := range in.programs(s, name) {
			if len(r.Programs) == maxPrograms {
				return nil, fmt.Errorf("%s: there are more than %d programs", path, maxPrograms)
			}
			r.Programs = append(r.Programs, p)
			if len(p.command) == 0 {
				continue
			}
			p.Service = draft.ServiceName(p.Name, taken)
			if p.Service != p.Name {
				p.say("name", "is %s here: at most %d of a-z, 0-9 and \"-\"", p.Service, draft.MaxName)
			}
			if p.listens != "" {
				p.lost("listeners", "it seems to listen (%s): see the TODO in the file", p.listens)
			}
			p.check(d.path, host)
		}
	}
	if len(r.Programs) == 0 {
		return nil, fmt.Errorf("%s: %w", path, errNone)
	}
	return r, nil
}

// check writes the configuration and has it read.
func (p *Program) check(from string, host config.Host) {
	text := p.write(from)
	if _, err := config.Parse("/etc/masterd/"+p.Service+".yaml", []byte(text), nil, host); err != nil {
		for line := range strings.Lines(err.Error()) {
			p.lost("check", "%s", strings.TrimSpace(strings.TrimPrefix(line, "/etc/masterd/")))
		}
	}
	p.Text = p.write(from)
}

// inherit reads what is not a program.
func (r *Result) inherit(d *document, env []string) *inherited {
	in := &inherited{values: expansions{"host_node_name": hostname()}, env: map[string]string{}, groups: map[string]string{}, here: filepath.Dir(d.path)}
	for _, kv := range env {
		if name, value, ok := strings.Cut(kv, "="); ok {
			in.values["ENV_"+name] = value
		}
	}
	for _, s := range d.sections {
		kind, name, _ := strings.Cut(s.name, ":")
		switch kind {
		case "program", "fcgi-program", "include":
		case "supervisord":
			r.supervisord(s, in)
		case "group":
			programs, _ := in.values.expand(s.text["programs"]) // a wrong one names nobody
			for _, p := range strings.Split(programs, ",") {
				in.groups[strings.TrimSpace(p)] = strings.TrimSpace(name)
			}
		case "eventlistener":
			r.lost(s.name, "there are no event listeners; masterd has hooks (rollout.hooks) and an API")
		case "inet_http_server":
			r.lost(s.name, "the admin API is on a Unix socket alone; admin.operators_group says who may use it")
		case "unix_http_server", "supervisorctl", "rpcinterface":
			// masterd's own verbs and socket need no configuration.
		default:
			r.lost(s.name, "is no section of supervisord's that is known here")
		}
	}
	return in
}

// supervisord reads the section of supervisord itself.
func (r *Result) supervisord(s *section, in *inherited) {
	for _, key := range s.keys {
		at := "supervisord: " + key
		value, err := in.values.expand(s.text[key])
		if err != nil {
			r.lost(at, "%v", err)
			continue
		}
		switch key {
		case "environment":
			list, wrong := variables(value)
			if wrong != nil {
				r.lost(at, "%v; it and what comes after it are left out", wrong)
			}
			for _, v := range list {
				in.env[v.name] = v.value
			}
		case "minfds":
			n, err := strconv.Atoi(value)
			if err != nil || n < 64 {
				r.lost(at, "is %q; a worker needs at least 64 descriptors", value)
				continue
			}
			in.nofile = n
		case "umask":
			r.lost(at, "set UMask=%s in a drop-in of the unit: workers inherit it", value)
		case "user":
			if value != "root" {
				r.lost(at, "run the master as %s with User= in a drop-in of the unit, or set worker.user", value)
			}
		case "minprocs":
			r.lost(at, "set LimitNPROC= in a drop-in of the unit")
		case "directory", "nodaemon", "logfile", "logfile_maxbytes", "logfile_backups", "loglevel", "pidfile", "identifier", "nocleanup", "childlogdir", "strip_ansi", "silent":
			// Of supervisord's own.
		default:
			r.lost(at, "is no key of supervisord's that is known here")
		}
	}
	maps.Copy(in.values, environmentOf(in.env))
}

// environmentOf is an environment as expansions.
func environmentOf(env map[string]string) expansions {
	e := expansions{}
	for name, value := range env {
		e["ENV_"+name] = value
	}
	return e
}

func (r *Result) lost(key, format string, args ...any) {
	r.Notes = append(r.Notes, Note{key, fmt.Sprintf(format, args...), true})
}
