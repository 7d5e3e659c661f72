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
	"autoreload": "rollout.watch", "watch": "rollout.watch", "autorestart": "restart", "deploy": "rollout",
	"logs": "log", "logging": "log", "logfile": "log.file", "loglevel": "log.level", "log_level": "log.level",
	"name": "service",
}

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
