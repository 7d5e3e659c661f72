package unitfile

import (
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// dropIn is where goes what masterd leaves to systemd.
const dropIn = "set it in a drop-in of the unit masterd@NAME: workers inherit it"

// service takes the keys of a service unit, in their order: lists grow, and an empty value
// empties them.
func (u *Unit) service(entries []entry, specs specifiers) {
	for _, e := range entries {
		value, err := e.value, error(nil)
		switch e.key {
		case "Description", "Documentation":
			continue
		case "ExecStart", "Environment": // they are taken apart before
		default:
			value, err = specs.expand(e.value)
		}
		if err != nil {
			u.lost(e.key, "%v", err)
			continue
		}
		switch e.section {
		case "Service":
			u.take(e.key, value, specs)
		case "Unit":
			u.takeUnit(e.key, value)
		case "Install":
			if e.key == "Alias" || e.key == "Also" {
				u.lost(e.key, "%s: the unit is masterd@%s here", value, "NAME")
			}
		default:
			if !strings.HasPrefix(e.section, "X-") {
				u.lost(e.section+": "+e.key, "is no key of a service that is known here")
			}
		}
	}
	u.command(entries, specs)
	if len(u.files) > 0 && len(u.worker.env) > 0 {
		u.lost("EnvironmentFile", "a variable that is in Environment=, too, has the file's value under systemd, and that of worker.env here")
	}
	if u.worker.ready && u.oneshot {
		u.worker.ready = false
	}
}

// takeUnit takes a key of [Unit] over, or says why not.
func (u *Unit) takeUnit(key, value string) {
	network := func(unit string) bool { return strings.HasPrefix(unit, "network") || unit == "" }
	switch key {
	case "SourcePath", "DefaultDependencies":
	case "After", "Wants", "Requires", "BindsTo":
		for unit := range strings.FieldsSeq(value) {
			if strings.HasSuffix(unit, ".socket") {
				u.sockets = true
			} else if !network(unit) {
				u.lost(key, "%s: set it in a drop-in of the unit masterd@NAME", unit)
			}
		}
	case "StartLimitIntervalSec", "StartLimitInterval", "StartLimitBurst":
		u.say(key, "masterd does not give up: it waits longer each time, up to restart.max")
	default:
		u.lost(key, "%s: set it in a drop-in of the unit masterd@NAME", value)
	}
}

// take takes a key of [Service] over, or says why not.
func (u *Unit) take(key, value string, specs specifiers) {
	w := &u.worker
	switch key {
	case "ExecStart": // by command
	case "Type":
		u.takeType(value)
	case "Environment":
		u.environment(value, specs)
	case "EnvironmentFile":
		u.environmentFile(value)
	case "User":
		w.user = value
	case "Group":
		w.group = value
	case "WorkingDirectory":
		if w.directory = strings.TrimPrefix(value, "-"); w.directory == "~" {
			u.lost(key, "is the home directory of the user; write its path into worker.directory")
			w.directory = ""
		} else if w.directory != value {
			u.say(key, "must be there: masterd starts no worker without its directory")
		}
	case "KillSignal":
		w.signal = u.signal(value)
	case "NotifyAccess":
		w.access = map[string]string{"all": "group"}[value]
	case "NoNewPrivileges":
		w.privileges = map[bool]string{true: "yes", false: "no"}[yes(value)]
	case "NonBlocking":
		w.nonBlocking = yes(value)
	case "FileDescriptorStoreMax":
		w.stored, _ = strconv.Atoi(value)
		if w.stored < 0 || w.stored > 512 {
			u.lost(key, "is %s; masterd keeps at most 512 descriptors", value)
			w.stored = 0
		}
	case "LimitNOFILE", "LimitNPROC", "LimitCORE", "TasksMax", "MemoryMax", "MemoryHigh", "MemoryLimit":
		u.limit(key, value)
	case "WatchdogSec", "TimeoutStopSec", "TimeoutStartSec", "TimeoutSec", "RestartSec":
		u.span(key, value)
	case "Sockets":
		u.sockets = u.sockets || value != ""
	default:
		u.leave(key, value)
	}
}

func (u *Unit) takeType(value string) {
	switch value {
	case "simple", "exec", "idle", "":
	case "notify", "notify-reload":
		u.worker.ready = true
	case "forking":
		u.lost("Type", "is forking: masterd needs a program that stays in the foreground; leave out the option that has it become a daemon")
	case "oneshot":
		u.oneshot = true
		u.lost("Type", "is oneshot: masterd starts a worker that ends again; a program that is meant to end stays a unit, or becomes a timer")
	default:
		u.lost("Type", "is %s: it is ready when its checks pass here", value)
	}
}

// environment takes variables over. What specifiers stand for may hold quotes and spaces, so
// they come after those.
func (u *Unit) environment(value string, specs specifiers) {
	if value == "" {
		clear(u.worker.env)
		return
	}
	list, err := words(value)
	if err != nil {
		u.lost("Environment", "%v", err)
		return
	}
	for _, word := range list {
		word, err := specs.expand(word)
		name, text, ok := strings.Cut(word, "=")
		switch {
		case err != nil:
			u.lost("Environment", "%v", err)
		case !ok || name == "":
			u.lost("Environment", "%q is not NAME=VALUE", word)
		default:
			u.worker.env[name] = text
		}
	}
}

func (u *Unit) environmentFile(value string) {
	path, optional := strings.CutPrefix(value, "-")
	switch {
	case value == "":
		u.files = nil
		return
	case strings.ContainsAny(path, "*?["):
		u.lost("EnvironmentFile", "%s stands for several files; name each in worker.env_files", path)
		return
	case !filepath.IsAbs(path):
		u.lost("EnvironmentFile", "%s is not absolute; write the whole path", path)
		return
	}
	if optional {
		u.lost("EnvironmentFile", "%s need not be there for systemd, and must for masterd: no worker starts without it", path)
	}
	u.files = append(u.files, path)
}

// signals are the numbers of those that a worker may be stopped with.
var signals = map[string]string{"1": "HUP", "2": "INT", "3": "QUIT", "10": "USR1", "12": "USR2", "15": "TERM", "28": "WINCH"}

func (u *Unit) signal(value string) string {
	name := strings.TrimPrefix(strings.ToUpper(value), "SIG")
	if n, ok := signals[name]; ok {
		name = n
	}
	for _, n := range signals {
		if name == n {
			return name
		}
	}
	u.lost("KillSignal", "%s is not for masterd to stop a worker with; it sends TERM, and KILL when the time is over", value)
	return ""
}

// limit takes a limit of each worker over.
func (u *Unit) limit(key, value string) {
	to := map[string]string{"LimitNOFILE": "nofile", "LimitNPROC": "processes", "LimitCORE": "core",
		"TasksMax": "tasks", "MemoryMax": "memory", "MemoryLimit": "memory", "MemoryHigh": "memory_high"}[key]
	soft, _, _ := strings.Cut(value, ":") // of two the first is what holds
	n, ok := bytes(soft)
	switch {
	case value == "" || soft == "infinity" && to != "core":
		delete(u.limits, to)
	case to == "core" && (soft == "infinity" || soft == "0"):
		u.limits[to] = map[string]string{"infinity": "unlimited", "0": "none"}[soft]
	case !ok || to == "core":
		u.lost(key, "is %s: worker.limits.%s takes another", value, to)
	default:
		if u.limits[to] = strconv.FormatUint(n, 10); strings.HasPrefix(to, "memory") {
			u.limits[to] = size(n)
		}
	}
}

// span takes a time over.
func (u *Unit) span(key, value string) {
	t, ok := span(value)
	if !ok {
		u.lost(key, "%q is no time that is understood here", value)
		return
	}
	if t == 0 && key != "RestartSec" && key != "WatchdogSec" {
		t = forever
	}
	switch key {
	case "WatchdogSec":
		if u.worker.watchdog = t; t == forever {
			u.worker.watchdog = 0
		}
	case "TimeoutStopSec":
		u.stop = t
	case "TimeoutStartSec":
		u.start = t
	case "TimeoutSec":
		u.stop, u.start = t, t
	case "RestartSec":
		if u.restart = min(t, maxRestart); u.restart != t {
			u.lost(key, "is %s: restart.initial is at most %s", value, maxRestart)
		}
	}
}

const maxRestart = time.Minute

func yes(value string) bool {
	return slices.Contains([]string{"1", "yes", "y", "true", "t", "on"}, strings.ToLower(value))
}

// leave says what becomes of a key that the configuration has nothing for.
func (u *Unit) leave(key, value string) {
	switch key {
	case "Restart":
		switch value {
		case "no", "":
			u.lost(key, "is no: masterd starts a worker that ends again")
		case "always":
		default:
			u.say(key, "is %s: masterd starts a worker that ends again, however it ended", value)
		}
	case "KillMode":
		if value == "process" || value == "none" {
			u.lost(key, "is %s: masterd ends all that a worker has started", value)
		}
	case "StandardOutput", "StandardError":
		if path, file := strings.CutPrefix(value[strings.IndexByte(value, ':')+1:], "/"); file {
			u.lost(key, "/%s: output goes to masterd's log, and with that to the journal (journalctl -u, masterd logs); log.file names a file, which something else must rotate", path)
		} else if value == "null" {
			u.say(key, "output is not thrown away: it goes to masterd's log, at most log.per_worker")
		}
	case "StandardInput", "SyslogIdentifier", "SyslogFacility", "SyslogLevel":
		u.say(key, "each line is in masterd's log with its stream and worker")
	case "ExecReload":
		u.say(key, "masterd reload starts the new version beside the old one, so nothing is sent to a worker")
	case "ExecStartPre", "ExecCondition":
		u.lost(key, "%s: rollout.hooks.before runs a program before each reload, as the master's user; nothing runs before each start of a worker", value)
	case "ExecStartPost", "ExecStopPost":
		u.lost(key, "%s: there are rollout.hooks.after and rollout.hooks.failed, as the master's user", value)
	case "ExecStop":
		u.lost(key, "%s: drain.command is a program that has a worker finish; it gets MASTERD_WORKER_PID", value)
	case "AmbientCapabilities":
		u.lost(key, "%s: a worker has none; for a low port it needs none, since the master opens the listeners", value)
	case "CapabilityBoundingSet":
		u.lost(key, "%s: worker.capabilities is for workers as root; those with worker.user have none", value)
	case "DynamicUser":
		if yes(value) {
			u.lost(key, "make a user and name it in worker.user; without, the worker runs as the master's, root")
		}
	case "PIDFile":
		u.lost(key, "%s: two versions run at once, so have the program write none, or name it by {worker} in worker.command", value)
	case "RemainAfterExit", "SuccessExitStatus", "RestartPreventExitStatus", "RestartForceExitStatus", "GuessMainPID":
		u.lost(key, "masterd starts a worker that ends again, whatever its exit code")
	case "PrivateTmp":
		if value != "no" {
			u.lost(key, "not in a drop-in of masterd@NAME: systemd removes that directory when a master has died, and its workers serve on")
		}
	case "BusName":
		u.lost(key, "%s: two versions run at once, and a name on the bus is one's alone", value)
	default:
		u.lost(key, "%s: %s", short(value), dropIn)
	}
}

// short is a text that fits into a sentence.
func short(s string) string {
	const most = 60
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}
