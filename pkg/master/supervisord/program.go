package supervisord

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/masterd/masterd/pkg/master/draft"
)

const (
	maxProcesses = 64               // worker.processes
	defaultWait  = 10 * time.Second // supervisord's stopwaitsecs
)

// Note is what is to be said about one key of one program, or of one section.
type Note struct {
	Key  string
	Text string
	Open bool // something is lost, or is to be done by a person
}

// Program is one of supervisord's, or one process of it where they differ.
type Program struct {
	Name    string // supervisord's
	Service string // masterd's
	Text    string // the configuration; empty: none could be made
	Notes   []Note

	command   []string
	directory string
	user      string
	env       map[string]string
	processes int
	signal    string
	wait      time.Duration
	nofile    int
	listens   string        // what makes it look as if it listened by itself
	address   string        // the address in that, if there is one
	preset    *draft.Preset // what masterd knows of the program; nil: nothing
}

func (p *Program) lost(key, format string, args ...any) {
	p.Notes = append(p.Notes, Note{key, fmt.Sprintf(format, args...), true})
}

func (p *Program) say(key, format string, args ...any) {
	p.Notes = append(p.Notes, Note{key, fmt.Sprintf(format, args...), false})
}

// inherited is what all programs have from [supervisord].
type inherited struct {
	values expansions
	env    map[string]string
	nofile int
	groups map[string]string // of a program
	here   string
}

// programs makes one or several of a section: processes that are told their
// number are different programs to masterd.
func (in *inherited) programs(s *section, name string) []*Program {
	n, err := strconv.Atoi(in.plain(s, "numprocs", "1"))
	if err != nil || n < 1 {
		p := &Program{Name: name}
		p.lost("numprocs", "is %q and no number of processes", s.text["numprocs"])
		return []*Program{p}
	}
	numbered := slices.ContainsFunc([]string{"command", "environment", "directory", "user"}, func(k string) bool {
		return strings.Contains(s.text[k], "%(process_num)")
	})
	if !numbered {
		p := in.program(s, name, 0, n)
		p.processes = min(n, maxProcesses)
		if n > maxProcesses {
			p.lost("numprocs", "is %d; masterd runs at most %d processes of a service", n, maxProcesses)
		}
		return []*Program{p}
	}
	first, _ := strconv.Atoi(in.plain(s, "numprocs_start", "0"))
	var list []*Program
	for i := first; i < first+min(n, maxPrograms); i++ {
		p := in.program(s, name, i, n)
		if n > 1 {
			p.Name = fmt.Sprintf("%s-%02d", name, i)
			p.say("numprocs", "each process is told its number, so each is a service of its own; with a listener that all share, one with processes: %d would do", n)
		}
		p.processes = 1
		list = append(list, p)
	}
	return list
}

// plain is a value without expansions.
func (in *inherited) plain(s *section, key, none string) string {
	if v := s.text[key]; v != "" {
		return v
	}
	return none
}

// program reads one.
func (in *inherited) program(s *section, name string, number, of int) *Program {
	p := &Program{Name: name, processes: 1, wait: defaultWait, nofile: in.nofile, env: maps.Clone(in.env)}
	group := in.groups[name]
	if group == "" {
		group = name
	} else {
		p.say("group", "is in %q; masterd has no groups, and systemd's targets are the nearest thing to them", group)
	}
	values := maps.Clone(in.values)
	maps.Copy(values, expansions{
		"program_name": name, "group_name": group, "process_num": strconv.Itoa(number), "numprocs": strconv.Itoa(of), "here": in.here,
	})
	// First, as supervisord does: what the program's own environment says of a
	// variable goes before what it has of supervisord's.
	p.environment(s.text["environment"], values)
	maps.Copy(values, environmentOf(p.env))
	for _, key := range s.keys {
		if key == "environment" {
			continue
		}
		value, err := values.expand(s.text[key])
		if err != nil {
			p.lost(key, "%v", err)
			continue
		}
		if value == "" {
			continue
		}
		p.take(key, value)
	}
	if p.command == nil && !slices.ContainsFunc(p.Notes, func(n Note) bool { return n.Key == "command" }) {
		p.lost("command", "is not given; nothing is written")
	}
	// supervisord does not know where its programs listen, and masterd must.
	p.listens, p.address = draft.AddressOf(p.command, p.env)
	p.recognise()
	return p
}

// take takes one key over, or says why not.
func (p *Program) take(key, value string) {
	switch key {
	case "command":
		args, err := split(value)
		if err != nil {
			p.lost(key, "%v; nothing is written", err)
			return
		}
		if strings.Contains(args[0], "/") && !filepath.IsAbs(args[0]) {
			p.lost(key, "%s is relative to where supervisord was started; write the whole path", args[0])
		}
		if base := filepath.Base(args[0]); base == "pidproxy" {
			p.lost(key, "pidproxy is for programs that make themselves daemons; masterd needs one that stays in the foreground")
		}
		p.command = args
	case "directory":
		p.directory = value
		if !filepath.IsAbs(value) {
			p.lost(key, "%s is not absolute; write the whole path", value)
		}
	case "user":
		p.user = value
	case "numprocs", "numprocs_start", "programs":
	case "process_name":
		p.say(key, "masterd numbers workers by itself")
	case "stopsignal":
		p.signal = strings.TrimPrefix(strings.ToUpper(value), "SIG")
		if !slices.Contains([]string{"TERM", "INT", "QUIT", "HUP", "USR1", "USR2", "WINCH"}, p.signal) {
			p.lost(key, "%s is not for masterd to stop a worker with; it sends TERM, and KILL when the time is over", value)
			p.signal = ""
		}
	case "stopwaitsecs":
		n, err := strconv.Atoi(value)
		if err != nil || n < 0 || n > 24*60*60 {
			p.lost(key, "%q is no number of seconds up to a day", value)
			return
		}
		p.wait = max(time.Duration(n)*time.Second, time.Second)
	case "autostart":
		if off(value) {
			p.say(key, "is false: do not enable the unit (systemctl enable), and start it by hand")
		}
	case "autorestart", "exitcodes":
		if key == "exitcodes" || off(value) {
			p.lost(key, "masterd starts a worker that ends again, whatever its exit code; a program that is meant to end is one for a systemd unit of Type=oneshot, or a timer")
		} else if strings.EqualFold(value, "unexpected") {
			p.say(key, "masterd starts a worker that ends again also after exit code 0")
		}
	case "startsecs":
		p.say(key, "a new version that dies within rollout.bake (5m) is taken back; there is no other time that it must live")
	case "startretries":
		p.say(key, "masterd does not give up: it waits longer each time, up to restart.max (10s)")
	case "stopasgroup", "killasgroup":
		if off(value) {
			p.say(key, "masterd always signals the whole process group of a worker")
		}
	case "redirect_stderr":
		p.say(key, "both go to masterd's log, each line with its stream and worker")
	case "stdout_logfile", "stderr_logfile":
		switch {
		case strings.EqualFold(value, "none"):
			p.say(key, "output is not thrown away: it goes to masterd's log, at most log.per_worker")
		case strings.EqualFold(value, "auto"), strings.HasPrefix(value, "/dev/"):
		default:
			p.lost(key, "%s: output goes to masterd's log, and with that to the journal (journalctl -u, masterd logs); log.file names a file, which something else must rotate", value)
		}
	case "stdout_logfile_maxbytes", "stdout_logfile_backups", "stderr_logfile_maxbytes", "stderr_logfile_backups":
		if value == "0" { // no rotation, as for /dev/stdout
			return
		}
		p.say(key, "the journal has limits of its own, see journald.conf(5)")
	case "priority":
		p.lost(key, "services start in no order; use After= in drop-ins of their units")
	case "umask":
		p.lost(key, "set UMask=%s in a drop-in of the unit: workers inherit it", value)
	case "stdout_capture_maxbytes", "stderr_capture_maxbytes", "stdout_events_enabled", "stderr_events_enabled":
		if value != "0" && !off(value) {
			p.lost(key, "there are no event listeners; masterd has hooks (rollout.hooks) and an API")
		}
	case "stdout_syslog", "stderr_syslog":
		if !off(value) {
			p.say(key, "the journal passes lines on to syslog, see ForwardToSyslog= in journald.conf(5)")
		}
	case "serverurl":
		p.lost(key, "there is no XML-RPC server; masterd's API is HTTP on its admin socket")
	case "socket", "socket_owner", "socket_mode", "socket_backlog":
		p.lost(key, "a FastCGI socket is given as standard input there, and by LISTEN_FDS (from descriptor 3) here; name it in listeners if the program takes it so")
	default:
		if meant := meant[key]; meant != "" {
			p.lost(key, "is no key of supervisord's; did you mean %s?", meant)
			return
		}
		p.lost(key, "is no key of supervisord's that is known here")
	}
}

// meant are keys as others name them, with what supervisord calls them.
var meant = map[string]string{
	"kill_signal": "stopsignal", "killsignal": "stopsignal", "stop_signal": "stopsignal", "stopwait": "stopwaitsecs", "stop_timeout": "stopwaitsecs",
	"cmd": "command", "env": "environment", "cwd": "directory", "dir": "directory", "workingdirectory": "directory",
	"processes": "numprocs", "restart": "autorestart", "stdout_log": "stdout_logfile", "stderr_log": "stderr_logfile",
}

// environment takes variables apart before it looks into them: what they stand
// for may hold quotes and commas.
func (p *Program) environment(text string, values expansions) {
	list, wrong := variables(text)
	if wrong != nil {
		p.lost("environment", "%v; it and what comes after it are left out", wrong)
	}
	for _, v := range list {
		value, err := values.expand(v.value)
		if err != nil {
			p.lost("environment", "%s: %v", v.name, err)
			continue
		}
		p.env[v.name] = value
	}
}

func off(value string) bool {
	return slices.Contains([]string{"false", "no", "off", "0", "n", "f"}, strings.ToLower(value))
}
