package proc

import (
	"maps"
	"slices"
	"strings"
)

// CleanEnv returns env as a worker may have it, with extra added.
//
// What a service manager told the master about itself is left out: a worker
// that inherited NOTIFY_SOCKET could stop the whole unit with its STOPPING=1,
// one that inherited LISTEN_FDS would take sockets for its own that are not.
// So is everything MASTERD_: extra says what the worker is to know.
//
// A key in extra replaces the same key in env. The rest keeps its order; extra
// follows, sorted. Neither argument is changed.
func CleanEnv(extra map[string]string, env []string) []string {
	out := make([]string, 0, len(env)+len(extra))
	for _, kv := range env {
		key, _, ok := strings.Cut(kv, "=")
		if !ok || key == "" || managers(key) {
			continue
		}
		if _, replaced := extra[key]; !replaced {
			out = append(out, kv)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(extra)) {
		out = append(out, key+"="+extra[key])
	}
	return out
}

// managers reports whether a service manager spoke to the master by this key.
func managers(key string) bool {
	switch key {
	case "NOTIFY_SOCKET", "FDSTORE", "MAINPID", "INVOCATION_ID", "JOURNAL_STREAM", "SYSTEMD_EXEC_PID":
		return true
	}
	return strings.HasPrefix(key, "LISTEN_") ||
		strings.HasPrefix(key, "WATCHDOG_") ||
		strings.HasPrefix(key, "MASTERD_")
}
