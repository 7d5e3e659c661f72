package freeze

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/masterd/masterd/pkg/api"
)

// progress are the lines that say how a rollout goes on: how many there are depends on
// how fast the machine is.
var progress = regexp.MustCompile(`(?m)^ *\d+\.\ds  .*\n`)

// transcript writes what an operator typed, the exit status, and what was said.
func (p *product) transcript(b *strings.Builder, args ...string) {
	p.t.Helper()
	out, code := p.CLI(p.t.Context(), args...)
	line := p.steady(strings.Join(args, " "))
	fmt.Fprintf(b, "$ masterd %s\n%s[%d]\n\n", line, p.steady(progress.ReplaceAllString(out, "")), code)
}

// TestMessages: what operators read when something is refused, fails or goes back, with
// the exit status of the verb.
func TestMessages(t *testing.T) {
	t.Parallel()
	p := newProduct(t)
	var b strings.Builder
	say := func(args ...string) { t.Helper(); p.transcript(&b, args...) }
	set := func(path string, value any) {
		t.Helper()
		p.Config.Set(path, value)
		if err := p.Write(); err != nil {
			t.Fatal(err)
		}
	}
	bad := func(label, key, value, timeout string) {
		t.Helper()
		p.Config.Set("health.start.timeout", timeout)
		set("worker.env", map[string]string{key: value})
		say("reload", "--label", label)
		p.Config.Set("health.start.timeout", "1m")
		set("worker.env", map[string]string{})
	}
	// crash ends the worker that has the traffic, once the version with that label has it.
	crash := func(label string) {
		t.Helper()
		p.until(label+" to serve", func(st api.Status) bool { return st.Active != nil && st.Active.Version.Label == label })
		if answer, err := http.Post("http://"+p.Addr+"/crash", "", nil); err == nil {
			_ = answer.Body.Close()
		}
	}
	p.Config.Set("health.start.timeout", "1m").Set("rollout.bake", "100ms").Set("restart.initial", "1m").Set("restart.max", "1m")
	if err := p.Write(); err != nil {
		t.Fatal(err)
	}
	say("status")
	say("reload")
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.until("the end of the bake", settled)

	say("rollback")
	say("rollback", "nosuch")
	say("promote")
	say("pause")
	say("resume")
	say("reload", "--canary", "5")
	say("abort")
	say("unhold")
	say("scale", "65")
	say("versions", "pin", "nosuch")
	say("upgrade", "--binary", filepath.Join(p.Dir, "nosuch"))
	say("upgrade", "--binary", p.program("no-proof", "echo no good; exit 3"))

	set("servce", "shop")
	say("check")
	say("reload")
	delete(p.Config, "servce")
	set("worker.command", []string{"/nonexistent/program"})
	say("reload")
	set("worker.command", []string{p.Demo})

	bad("exits", "DEMO_EXIT", "3", "1m")
	bad("hangs", "DEMO_HANG", "1", "300ms")
	bad("unhealthy", "DEMO_UNHEALTHY", "1", "5s")

	p.Config.Set("worker.env.DEMO_CRASH", "1")
	set("rollout.bake", "5m")
	crashed := make(chan struct{})
	go func() {
		defer close(crashed)
		say("reload", "--label", "crashes", "--until", "baked")
	}()
	crash("crashes")
	<-crashed
	set("rollout.bake", "100ms")
	p.until("the version before", settled)

	say("hold", "the database moves")
	say("reload")
	say("unhold")
	say("reload", "--label", "v2", "--until", "baked", "--reason", "why")
	say("reload", "--label", "v3", "--confirm", "5m")
	say("reload", "--label", "v4")
	say("rollback", "--reason", "it is slow")
	say("rollback", "crashes")
	say("stop", "--announce", "bad")

	// Why the state is not simply "serving": the worker fails its checks, and its
	// replacement does, too.
	reasons := func(what string, ok func(api.Status) bool) {
		t.Helper()
		p.until(what, ok)
		out, code := p.CLI(t.Context(), "status", "--json")
		var st api.Status
		if err := json.Unmarshal([]byte(out), &st); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		fmt.Fprintf(&b, "$ masterd status: %s\n%s\n[%d]\n\n", st.State, p.steady(strings.Join(st.Reasons, "\n")), code)
	}
	health := p.Config["health"].(map[string]any)
	delete(health, "http")
	health["command"] = []string{"/bin/sh", "-c", "! test -e " + filepath.Join(p.Dir, "sick")}
	health["active"] = map[string]any{"interval": "500ms", "timeout": "10s", "failures": 2}
	set("worker.env.DEMO_CRASH", "1")
	p.must("reload", "--label", "sick", "--until", "baked")
	p.until("the end of the one before", settled)
	p.program("sick", "")
	reasons("checks to fail", func(st api.Status) bool { return st.State == "degraded" })
	crash("sick")
	reasons("its replacement to be checked", func(st api.Status) bool {
		return st.State == "down" && len(st.Generations) == 1 && st.Generations[0].Workers[0].LastProbe != "" && st.Generations[0].Workers[0].Phase == "checking"
	})
	say("stop")
	say("status")
	golden(t, "messages", b.String())
}
