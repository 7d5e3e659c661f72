package config

import (
	"fmt"
	"slices"
	"strings"
)

// elsewhere is what other programs call a key, and what it is here. Names that are near to a
// key's own, or the same in another section, are found without.
var elsewhere = map[string]string{
	"workers": "worker.processes", "instances": "worker.processes", "replicas": "worker.processes",
	"numprocs": "worker.processes", "concurrency": "worker.processes", "scale": "worker.processes",
	"cmd": "worker.command", "exec": "worker.command", "execstart": "worker.command", "program": "worker.command",
	"args": "worker.command", "binary": "worker.command", "script": "worker.command", "entrypoint": "worker.command",
	"cwd": "worker.directory", "dir": "worker.directory", "chdir": "worker.directory", "workdir": "worker.directory",
	"working_dir": "worker.directory", "working_directory": "worker.directory", "workingdirectory": "worker.directory",
	"env_file": "worker.env_files", "envfile": "worker.env_files", "environmentfile": "worker.env_files",
	"environment_file": "worker.env_files", "dotenv": "worker.env_files", "envs": "worker.env", "variables": "worker.env",
	"port": "listeners", "ports": "listeners", "bind": "listeners", "listen": "listeners", "host": "listeners",
	"addr": "listeners", "socket": "listeners", "sockets": "listeners", "expose": "listeners",
	"healthcheck": "health", "health_check": "health", "healthchecks": "health", "checks": "health", "probe": "health",
	"readiness": "health", "liveness": "health", "health_path": "health.http.path", "healthz": "health.http.path",
	"uid": "worker.user", "runas": "worker.user", "gid": "worker.group", "nofile": "worker.limits.nofile",
	"grace": "drain.timeout", "grace_period": "drain.timeout", "graceful_timeout": "drain.timeout",
	"stop_grace_period": "drain.timeout", "shutdown_timeout": "drain.timeout", "drain_timeout": "drain.timeout",
	"stopsignal": "worker.stop_signal", "kill_signal": "worker.stop_signal", "reload": "rollout.watch",
	"autoreload": "rollout.watch", "watch": "rollout.watch", "deploy": "rollout",
	"logs": "log", "logging": "log", "logfile": "log.file", "loglevel": "log.level", "log_level": "log.level",
	"name": "service", "worker_processes": "worker.processes", "worker_rlimit_nofile": "worker.limits.nofile",
	"limitnofile": "worker.limits.nofile", "tasksmax": "worker.limits.tasks", "pids_limit": "worker.limits.tasks",
	"memorymax": "worker.limits.memory", "mem_limit": "worker.limits.memory", "max_memory_restart": "worker.limits.memory",
	"stopwaitsecs": "drain.timeout", "timeoutstopsec": "drain.timeout", "kill_timeout": "drain.timeout",
	"terminationgraceperiodseconds": "drain.timeout", "livenessprobe": "health", "readinessprobe": "health",
	"startupprobe": "health", "error_log": "log.file", "depends_on": "rollout.require",
}

// nowhere is what other programs have and masterd has no key for, with the reason.
var nowhere = map[string]string{
	"version":        "a configuration has no version; leave it out",
	"pid":            "masterd needs no PID file; leave it out",
	"pidfile":        "masterd needs no PID file; leave it out",
	"pid_file":       "masterd needs no PID file; leave it out",
	"daemon":         "workers stay in the foreground, and masterd starts them; leave it out",
	"daemonize":      "workers stay in the foreground, and masterd starts them; leave it out",
	"upstream":       "there is no proxy: workers take the connections themselves, at what listeners names",
	"proxy_pass":     "there is no proxy: workers take the connections themselves, at what listeners names",
	"cert":           "TLS is the worker's own, with its certificate: masterd does not read connections",
	"key":            "TLS is the worker's own, with its certificate: masterd does not read connections",
	"tls":            "TLS is the worker's own, with its certificate: masterd does not read connections",
	"ssl":            "TLS is the worker's own, with its certificate: masterd does not read connections",
	"autorestart":    "a worker that ends is always started again; restart says after how long",
	"autostart":      "masterd starts its workers at once; whether masterd starts at boot systemctl enable says",
	"exec_mode":      "all workers take connections; worker.processes says how many there are",
	"image":          "masterd runs programs of this machine, not images: worker.command",
	"volumes":        "masterd runs programs of this machine, which see its files; leave it out",
	"access_log":     "masterd does not read requests; what workers print is in its log",
	"stdout_logfile": "what workers print is in masterd's log: masterd logs, log.file",
	"stderr_logfile": "what workers print is in masterd's log: masterd logs, log.file",
	"services":       oneService,
	"apps":           oneService,
	"apiversion":     oneService,
	"web":            `this looks like a Procfile; "masterd init" in its directory reads it`,
}

// stepWords is what others call the keys of a canary's step.
var stepWords = map[string]string{
	"setweight": "weight", "percent": "weight", "percentage": "weight", "share": "weight", "traffic": "weight",
	"pause": "hold", "duration": "hold", "wait": "hold", "interval": "hold", "time": "hold", "for": "hold",
}

const oneService = `this looks like a configuration of another program; one of masterd's is for one service, and "masterd init -- COMMAND" writes one`

// unknown says that there is no such key, and which one was probably meant:
// one beside it, else one of that name elsewhere.
func (s schema) unknown(section, name string) string {
	var beside []string
	for _, k := range s.children[section] {
		beside = append(beside, k.Name())
	}
	if len(name) > maxWord {
		name = name[:maxWord] + "..."
	}
	path := elsewhere[strings.ToLower(name)]
	switch why := nowhere[strings.ToLower(name)]; {
	case why != "":
		return "unknown key: " + why
	case section == "listeners" && path == "listeners":
		return `unknown key; did you mean address? It is one text: "tcp://127.0.0.1:8080"`
	case section == stepsPath && stepWords[strings.ToLower(name)] != "":
		return fmt.Sprintf("unknown key; did you mean %s[].%s?", stepsPath, stepWords[strings.ToLower(name)])
	case section == "worker" && name == "environment":
		return "unknown key; did you mean worker.env?"
	}
	for _, k := range s.keys {
		if k.Name() == name && (section != "" || path == "") {
			path = k.Path
			break
		}
	}
	switch path {
	case "":
	case "listeners":
		return `unknown key; did you mean listeners? They are a list: [{name: http, address: "tcp://127.0.0.1:8080"}]`
	default:
		return fmt.Sprintf("unknown key; did you mean %s?", path)
	}
	if near := nearest(name, beside); near != "" {
		prefix := ""
		if section != "" {
			prefix = s.children[section][0].Path
			prefix = prefix[:strings.LastIndexByte(prefix, '.')+1]
		}
		return fmt.Sprintf("unknown key; did you mean %s?", prefix+near)
	}
	var names, paths []string
	for _, k := range s.keys {
		names, paths = append(names, k.Name()), append(paths, k.Path)
	}
	if near := nearest(name, names); near != "" {
		return fmt.Sprintf("unknown key; did you mean %s?", paths[slices.Index(names, near)])
	}
	return "unknown key; known here: " + strings.Join(beside, ", ")
}
