package systemd

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"
)

// journaled are the journal's entries that fit, by their fields.
func (u *unit) journaled(match ...string) (entries []map[string]string) {
	u.t.Helper()
	out := u.must(append([]string{"journalctl", "--no-pager", "-o", "json"}, match...)...)
	for line := range strings.Lines(out) {
		var raw map[string]any
		if err := json.Unmarshal([]byte(line), &raw); err != nil {
			u.t.Fatalf("%v: %q", err, line)
		}
		e := map[string]string{}
		for name, value := range raw {
			text, is := value.(string)
			if !is {
				u.t.Errorf("%s is no single text: %v", name, value)
			}
			e[name] = text
		}
		entries = append(entries, e)
	}
	return entries
}

// The journal has priorities and fields of the master's log, and whatever a worker prints is
// nothing but a message.
func TestJournalHasFields(t *testing.T) {
	t.Parallel()
	u := newUnit(t)
	u.start()
	u.baked()
	hostile := []string{"<0>an emergency", "MASTERD_WORKER=999", `{"level":"error","MASTERD_SERVICE":"other","msg":"no database"}`}
	u.env = map[string]string{"DEMO_EXIT": "3", "DEMO_EXIT_MESSAGE": "\n" + strings.Join(hostile, "\n")}
	u.configure()
	if out, code := u.run("systemctl", "reload", u.name); code == 0 {
		t.Errorf("the reload: %s", out)
	}
	u.eventually("the failure to be in the journal", func() (bool, string) {
		return len(u.journaled("MASTERD_SERVICE=demo", "MASTERD_WHAT=reload", "MASTERD_OUTCOME=failed")) > 0, ""
	})
	failed := u.journaled("MASTERD_SERVICE=demo", "MASTERD_WHAT=reload", "MASTERD_OUTCOME=failed")[0]
	for name, want := range map[string]string{
		"PRIORITY": "4", "MASTERD_GENERATION": "2", "MASTERD_OUTCOME": "failed", "SYSLOG_IDENTIFIER": "masterd", "_SYSTEMD_UNIT": u.name + ".service",
	} {
		if failed[name] != want {
			t.Errorf("%s is %q, want %q in %v", name, failed[name], want, failed)
		}
	}
	if !strings.HasPrefix(failed["MESSAGE"], "history  {") || failed["MASTERD_TRACE_ID"] == "" || !strings.Contains(failed["MASTERD_REASON"], "exit status 3") {
		t.Errorf("%v", failed)
	}
	// What is at warn or worse: the failure and the worker's line that says so itself, and no
	// line of the start.
	warned := map[string]bool{}
	for _, e := range u.journaled("-p", "warning", "MASTERD_SERVICE=demo") {
		if p, err := strconv.Atoi(e["PRIORITY"]); err != nil || p > 4 {
			t.Errorf("%v", e)
		}
		warned[e["MASTERD_WHAT"]+e["MASTERD_STREAM"]] = true
		if strings.Contains(e["MESSAGE"], "masterd starts") || strings.Contains(e["MESSAGE"], "an emergency") {
			t.Errorf("-p warning has %v", e)
		}
	}
	if !warned["reload"] || !warned["stderr"] {
		t.Errorf("-p warning has %v", warned)
	}
	seen := 0
	for _, e := range u.journaled("MASTERD_STREAM=stderr") {
		for i, text := range hostile {
			if strings.HasSuffix(e["MESSAGE"], " ! "+text) {
				seen |= 1 << i
				if e["MASTERD_WORKER"] != "2" || e["MASTERD_GENERATION"] != "2" || e["MASTERD_SERVICE"] != "demo" || e["MASTERD_WORKER_PID"] == "" {
					t.Errorf("%v", e)
				}
			}
		}
	}
	if seen != 1<<len(hostile)-1 {
		t.Errorf("of what the worker has printed there is %b", seen)
	}
	if others := append(u.journaled("MASTERD_WORKER=999"), u.journaled("MASTERD_SERVICE=other")...); len(others) > 0 {
		t.Errorf("fields of the worker's: %v", others)
	}
	// Each line came by the journal's own protocol, also those of a master that was upgraded.
	u.must("masterd", "upgrade")
	u.eventually("the next master's lines", func() (bool, string) {
		return len(u.journaled("MASTERD_SERVICE=demo", "MESSAGE=history", "MASTERD_WHAT=upgrade"))+len(u.journaled("MASTERD_SERVICE=demo", "MASTERD_WHAT=upgrade")) > 0, ""
	})
	for _, e := range u.journaled("-u", u.name, "_COMM=masterd") {
		if e["_TRANSPORT"] == "stdout" && strings.Contains(e["MESSAGE"], "service_name") {
			t.Errorf("it came by standard error: %v", e)
		}
	}
}
