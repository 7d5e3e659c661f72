package proc

import (
	"fmt"
	"io"
	"iter"
	"os"
	"strconv"
	"strings"
)

const (
	maxFound   = 4096    // processes; more than any service has workers
	maxEnviron = 1 << 20 // bytes read of one environment
	readAtOnce = 256     // names of one directory
)

// FindWorkers looks for processes that lead their group, as every worker does,
// and were started with an environment that match accepts: workers that a master
// has started and not told anybody of, because it died just then. It reads the
// environment of every process that it may read, so it is for a start, not for
// every second. What ends meanwhile is left out.
func FindWorkers(match func(env []string) bool) []Found {
	var all []Found
	self := os.Getpid()
	for pid := range pids() {
		s, err := statusOf(pid)
		if err != nil || pid == self || s.group != pid || s.ended() {
			continue
		}
		env := environOf(pid)
		if len(env) == 0 || !match(env) {
			continue
		}
		if again, err := statusOf(pid); err != nil || again.begun != s.begun {
			continue // what was read may be another's
		}
		if all = append(all, Found{PID: pid, Begun: s.begun, Env: env}); len(all) == maxFound {
			break
		}
	}
	return all
}

// environOf is the environment that a process was started with; nil: it cannot
// be read.
func environOf(pid int) []string {
	f, err := os.Open(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil {
		return nil
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxEnviron))
	if err != nil || len(text) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(text), "\x00"), "\x00")
}

// pids are the processes that there are, or were a moment ago.
func pids() iter.Seq[int] {
	return func(yield func(int) bool) {
		dir, err := os.Open("/proc")
		if err != nil {
			return
		}
		defer dir.Close()
		for {
			names, err := dir.Readdirnames(readAtOnce)
			for _, name := range names {
				if pid, nan := strconv.Atoi(name); nan == nil && !yield(pid) {
					return
				}
			}
			if err != nil || len(names) == 0 {
				return
			}
		}
	}
}
