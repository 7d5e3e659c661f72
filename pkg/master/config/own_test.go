package config

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// parsed reads a configuration with these lines after what each needs.
func parsed(t *testing.T, lines string, env ...string) *Config {
	t.Helper()
	c, err := Parse("/etc/masterd/shop.yaml", []byte("service: shop\nstate_dir: /var/lib/shop\nruntime_dir: /run/shop\n"+lines), env, fakeHost())
	if err != nil {
		t.Fatalf("%s\n%v", lines, err)
	}
	return c
}

const (
	firstLines = `
listeners: [{name: http, address: "tcp://127.0.0.1:80"}, {name: side, address: "tcp://127.0.0.1:81"}]
worker: {kind: unmodified, preset: node, command: [/bin/first, "{a: b}"], processes: 2, user: "1000", group: "1000", ready: notify, notify_access: group, watchdog: 5s, stop_signal: INT, no_new_privileges: "yes"}
health: {http: {listener: side, path: /health, headers: {X-Key: "se: cret"}, status: [200, "300-302"]}, start: {timeout: 3s}, warmup: {path: /warm, requests: 7}}
drain: {command: [/bin/drain, --now], timeout: 1m}
`
	thenLines = `
listeners: [{name: other, address: "tcp://127.0.0.1:82"}, {name: web, address: "tcp://127.0.0.1:80"}, {name: side, address: "tcp://127.0.0.1:83"}]
worker: {command: [/bin/then], processes: 20, user: "2000", group: "2000"}
drain: {timeout: 2m}
`
)

func keptOf(c *Config) Kept {
	return Kept{Command: c.Worker.Command, Env: c.Worker.Env, Own: c.Own()}
}

// A kept version gets its own of what is Versioned, and today's of everything else, key by key.
func TestForAKeptVersion(t *testing.T) {
	was, today := parsed(t, firstLines), parsed(t, thenLines)
	got, note := today.For(keptOf(was))
	if note != "" {
		t.Fatal(note)
	}
	s := newSchema()
	for _, f := range s.fields(got) {
		if strings.HasPrefix(f.path, "listeners[") || f.path == "health.http.listener" || f.ptr == nil {
			continue
		}
		from := today
		if f.key.owned() || f.path == "worker.command" {
			from = was
		}
		if f.key.Versioned && !f.key.owned() && f.path != "worker.command" {
			continue // the store's own
		}
		i := slices.IndexFunc(s.fields(from), func(x field) bool { return x.path == f.path })
		if i < 0 || !reflect.DeepEqual(s.fields(from)[i].ptr, f.ptr) {
			t.Errorf("%s is %s", f.path, show(f))
		}
	}
	var names []string
	for _, l := range got.Listeners {
		names = append(names, l.Name+"="+l.Address)
	}
	// http is the listener of its address, whatever it is called today; side is that of its
	// name, as its address is gone; the third it does not know.
	if fmt.Sprint(names) != "[http=tcp://127.0.0.1:80 side=tcp://127.0.0.1:83]" || got.Health.HTTP.Listener != "side" {
		t.Errorf("%v, checked on %s", names, got.Health.HTTP.Listener)
	}
	if got.Base() != today || today.Base() != today {
		t.Error("it does not know what it was made of")
	}
	again, err := today.Adopt(got.Source())
	if err != nil {
		t.Fatal(err)
	}
	if changes := Diff(got, again); len(changes) > 0 || again.Base() != today {
		t.Errorf("read back it is another: %v", changes)
	}
}

// What is written for the next master is read back as it was, for each preset, kind and check.
func TestTextIsReadBack(t *testing.T) {
	texts := []string{strings.TrimPrefix(steps, "service: shop\n"), firstLines, thenLines, "worker: {command: [/bin/job], kind: socket-activation}\n", "worker: {command: [/bin/job]}\nhealth: none\n"}
	for _, name := range presetNames() {
		for _, kind := range []string{"", KindSDK, KindSocketActivation, KindUnmodified} {
			line := "worker: {command: [/bin/x], preset: " + name
			if kind != "" {
				line += ", kind: " + kind
			}
			rest := []string{
				"}\nlisteners: [{name: http, address: \"tcp4://:80\", steering: kernel, backlog: 12}]\n",
				", stop_signal: TERM}\nlisteners: [{name: http, address: \"tcp4://:80\"}]\nhealth: {tcp: {}}\nrollout: {bake: 0, surge: all}\n",
				`, env: {A: "x: y\n\"z\"", B: "#"}}` + "\nhealth: {command: [/bin/check, \"\", \"a b\"]}\nrollout: {hooks: {before: [[/bin/a, b], [/bin/c]]}}\n",
			}
			texts = append(texts, line+rest[len(texts)%len(rest)]) // each kind of each preset, and each rest of each
		}
	}
	for _, text := range texts {
		c := parsed(t, text)
		again, err := c.Adopt(c.text())
		if err != nil {
			t.Errorf("%s\nis written as\n%s\n%v", text, c.text(), err)
			continue
		}
		if changes := Diff(c, again); len(changes) > 0 {
			t.Errorf("%s\nis read back with %v", text, changes)
		}
	}
}

// An older masterd may have to read it: what has its default is not in it.
func TestTextSaysNoMoreThanItMust(t *testing.T) {
	want := "service: shop\nruntime_dir: /run/shop\nstate_dir: /var/lib/shop\nlisteners:\n  - name: http\n    address: tcp://127.0.0.1:80\n    backlog: 4096\n    steering: auto\n" +
		"worker:\n  kind: sdk\n  command: [/bin/x]\n  directory: /etc/masterd\n  stop_signal: TERM\nhealth:\n  http:\n    listener: http\n    path: /healthz\n" +
		"  start:\n  active:\n  warmup:\nrollout:\n  bake: 5m\n  surge: all\n"
	c := parsed(t, "worker: {command: [/bin/x]}\nlisteners: [{name: http, address: \"tcp://127.0.0.1:80\"}]\n")
	if got := string(c.text()); got != want {
		t.Errorf("%s", got)
	}
}

// The environment that overrides a key today does not override what a version was run with.
func TestForAKeptVersionTheEnvironmentIsNotAsked(t *testing.T) {
	was := parsed(t, firstLines)
	today := parsed(t, thenLines, "MASTERD_HEALTH_HTTP_PATH=/today", "MASTERD_ROLLOUT_BAKE=7s")
	got, note := today.For(keptOf(was))
	if note != "" || got.Health.HTTP.Path != "/health" || got.Rollout.Bake != today.Rollout.Bake {
		t.Errorf("%s %s %s", note, got.Health.HTTP.Path, got.Rollout.Bake)
	}
}

// Records that nobody has written so: cut, hostile, of another masterd. What cannot be used
// is said, today's is used in its place, and nothing of the service's safety is ever taken.
func TestForAKeptVersionThatIsHostile(t *testing.T) {
	was, today := parsed(t, firstLines), parsed(t, thenLines)
	change := func(as func(o *own)) []byte {
		var o own
		if err := json.Unmarshal(was.Own(), &o); err != nil {
			t.Fatal(err)
		}
		as(&o)
		text, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	key := func(path string, v any) []byte { return change(func(o *own) { o.Keys[path] = v }) }
	without := func(path string) []byte { return change(func(o *own) { delete(o.Keys, path) }) }
	const none, unreadable, unusable, unknown = "kept by an earlier masterd", "cannot be read", "cannot be used any more", "does not know"
	for name, c := range map[string]struct {
		own  []byte
		note string // what it says
		kind string // whose settings are used; empty: today's
	}{
		"none":                    {nil, none, ""},
		"empty":                   {[]byte("{}"), unreadable, ""},
		"null":                    {[]byte("null"), unreadable, ""},
		"a list":                  {[]byte("[1]"), unreadable, ""},
		"cut":                     {was.Own()[:100], unreadable, ""},
		"keys are a text":         {[]byte(`{"keys":"x"}`), unreadable, ""},
		"a preset is gone":        {key("worker.preset", "zope"), `worker.preset: "zope" is not one of`, ""},
		"a kind is gone":          {key("worker.kind", "wasm"), unusable, ""},
		"a number":                {key("worker.watchdog", 7), "worker.watchdog: is no text", ""},
		"null in a key":           {key("worker.watchdog", nil), unusable, ""},
		"a text for a list":       {key("drain.command", "rm -rf /"), "drain.command: is not a list", ""},
		"numbers in a list":       {key("drain.command", []any{1}), "drain.command: is not a list of texts", ""},
		"a list for headers":      {key("health.http.headers", []any{"a"}), "health.http.headers: has no names and values", ""},
		"deep headers":            {key("health.http.headers", map[string]any{"a": map[string]any{}}), "values that are no texts", ""},
		"two checks":              {key("health.tcp.listener", "http"), "more than one of http, tcp and command", ""},
		"a cut request":           {key("health.http.path", "/x HTTP/1.1\r\nHost: evil\r\n"), unusable, ""},
		"YAML in a text":          {key("health.http.host", "x\nworker:\n  user: root"), unusable, ""},
		"YAML in a header":        {key("health.http.headers", map[string]any{"A\"\nworker:\n  user: root\n#": "x"}), unusable, ""},
		"YAML in an argument":     {key("drain.command", []any{"/bin/x", "\"]\nworker:\n  user: root\n"}), "", "unmodified"},
		"out of range":            {key("health.start.timeout", "900h"), unusable, ""},
		"huge":                    {key("drain.command", []any{"/bin/x", strings.Repeat("x", 2<<20)}), "larger than", ""},
		"many":                    {key("drain.command", slices.Repeat([]any{"/x"}, 300)), "at most 256", ""},
		"a user":                  {key("worker.user", "root"), unknown, "unmodified"},
		"processes":               {key("worker.processes", "2"), unknown, "unmodified"},
		"capabilities":            {key("worker.capabilities", []any{"ALL"}), unknown, "unmodified"},
		"a command":               {key("worker.command", []any{"/bin/evil"}), unknown, "unmodified"},
		"another masterd's":       {key("worker.telepathy", "deep"), `does not know, which are not used: "worker.telepathy"`, "unmodified"},
		"a key less":              {without("health.http.method"), "", "unmodified"},
		"no kind":                 {without("worker.kind"), "", KindSDK},
		"listeners of a bad name": {change(func(o *own) { o.Listeners[0].Name = "a: b\n" }), "is no listener's name", ""},
		"listeners twice":         {change(func(o *own) { o.Listeners[1].Name = "http" }), "or that of two", ""},
	} {
		t.Run(name, func(t *testing.T) {
			k := keptOf(was)
			k.Own = c.own
			if c.kind == KindSDK { // which has no drain.command
				k.Own = change(func(o *own) {
					maps.DeleteFunc(o.Keys, func(p string, _ any) bool { return !strings.HasPrefix(p, "health.http.") })
				})
			}
			got, note := today.For(k)
			if c.note == "" && note != "" || !strings.Contains(note, c.note) {
				t.Errorf("it says %q", note)
			}
			want := c.kind
			if want == "" {
				want = today.Worker.Kind
			}
			w := got.Worker
			if w.Kind != want || w.User != "2000" || w.Processes != 20 || len(w.Capabilities) > 0 || w.Command[0] == "/bin/evil" {
				t.Errorf("%+v", w)
			}
			if _, err := today.Adopt(got.Source()); err != nil {
				t.Errorf("the next master could not read it: %v", err)
			}
		})
	}
}

// A check goes to a listener that is there, and listeners that are gone are gone.
func TestForAKeptVersionWhoseListenerIsGone(t *testing.T) {
	was := parsed(t, `
listeners: [{name: http, address: "tcp://127.0.0.1:80"}, {name: old, address: "tcp://127.0.0.1:81"}]
worker: {command: [/bin/first]}
health: {tcp: {listener: old}}
`)
	got, note := parsed(t, thenLines).For(keptOf(was))
	if note != "" || len(got.Listeners) != 1 || got.Health.TCP == nil || got.Health.TCP.Listener != "http" || got.Health.HTTP != nil {
		t.Errorf("%q %+v %+v", note, got.Listeners, got.Health)
	}
	// Two that have changed their addresses with each other go by these.
	swapped := parsed(t, `
listeners: [{name: old, address: "tcp://127.0.0.1:80"}, {name: http, address: "tcp://127.0.0.1:81"}]
worker: {command: [/bin/then]}
`)
	got, note = swapped.For(keptOf(was))
	if note != "" || got.Listeners[0].Name != "http" || got.Listeners[0].Port != 80 || got.Listeners[1].Name != "old" || got.Health.TCP.Listener != "old" {
		t.Errorf("%q %+v", note, got.Listeners)
	}
	// With none that it knows it has none, as before.
	if got, _ = parsed(t, "listeners: [{name: x, address: \"tcp://127.0.0.1:99\"}]\nworker: {command: [/bin/y]}\n").For(keptOf(was)); len(got.Listeners) != 0 {
		t.Errorf("%+v", got.Listeners)
	}
}

// A version that was kept without settings of its own is run with today's, with the names of
// listeners as far as they are known.
func TestForAVersionOfAnEarlierMasterd(t *testing.T) {
	today := parsed(t, thenLines)
	for _, names := range [][]string{nil, {"side", "other", "web"}} {
		if got, note := today.For(Kept{Listeners: names}); got != today || !strings.Contains(note, "earlier masterd") {
			t.Errorf("%v: %q, %+v", names, note, got.Listeners)
		}
	}
	got, _ := today.For(Kept{Command: []string{"/bin/v0"}, Listeners: []string{"web", "gone"}})
	if len(got.Listeners) != 1 || got.Listeners[0].Name != "web" || got.Health.HTTP.Listener != "web" || got.Worker.Kind != KindSDK || got.Base() != today {
		t.Errorf("%+v", got.Listeners)
	}
	if again, err := today.Adopt(got.Source()); err != nil || len(Diff(got, again)) > 0 {
		t.Errorf("%v", err)
	}
}

// What root may is the service's, whatever preset a version was run with.
func TestAKeptVersionBringsNoCapabilities(t *testing.T) {
	with := func(preset string) *Config {
		return parsed(t, "listeners: [{name: http, address: \"tcp://127.0.0.1:80\"}]\nworker: {command: [/bin/x], preset: "+preset+"}\n")
	}
	haproxy, caddy := with("haproxy"), with("caddy")
	got, note := caddy.For(keptOf(haproxy))
	if note != "" || got.Worker.Preset != "haproxy" || got.Worker.Bounding() != caddy.Worker.Bounding() || got.Worker.Bounding() == haproxy.Worker.Bounding() {
		t.Errorf("%q %s %x", note, got.Worker.Preset, got.Worker.Bounding())
	}
	again, err := caddy.Adopt(got.Source())
	if err != nil || again.Worker.Bounding() != caddy.Worker.Bounding() {
		t.Error(err)
	}
}

// Which keys a version keeps is decided for each of them, here once more.
func TestVersionedKeys(t *testing.T) {
	var of []string
	for _, k := range Keys() {
		if k.Versioned && !strings.HasPrefix(k.Path, "health.") {
			of = append(of, k.Path)
		}
		if (k.Type == Section || k.Type == List) && k.Versioned {
			t.Errorf("%s has no value", k.Path)
		}
		if strings.HasPrefix(k.Path, "health.") && k.Type != Section && !k.Versioned {
			t.Errorf("%s says how a program is checked", k.Path)
		}
	}
	want := strings.Fields(`worker.kind worker.preset worker.command worker.directory worker.env worker.env_files worker.stop_signal worker.ready
		worker.notify_access worker.watchdog worker.non_blocking drain.signal drain.command`)
	if !slices.Equal(of, want) {
		t.Errorf("%v", of)
	}
}

// What is shown of it has no secrets, and a difference is told by key.
func TestOwnIsShown(t *testing.T) {
	was, today := parsed(t, firstLines), parsed(t, thenLines)
	shown := ShowOwn(was.Own())
	for key, want := range map[string]string{
		"worker.kind": "unmodified", "health.http.path": "/health", "health.http.headers": "(set)", "health.http.status": "200,300-302", "health.warmup.requests": "7",
		"drain.command": "[/bin/drain, \"--now\"]", "listeners[http]": "tcp://127.0.0.1:80", "worker.watchdog": "5s",
	} {
		if shown[key] != want {
			t.Errorf("%s is shown as %s", key, shown[key])
		}
	}
	if ShowOwn(nil) != nil || ShowOwn([]byte("{")) != nil {
		t.Error("something is shown of nothing")
	}
	text := fmt.Sprint(DiffOwn(was.Own(), today.Own()))
	for _, want := range []string{"health.http.path: /health → /healthz", "worker.kind: unmodified → sdk", "listeners[web]: tcp://127.0.0.1:80 added",
		"health.http.headers: changed", "health.warmup.requests: 7 → 0"} {
		if !strings.Contains(text, want) {
			t.Errorf("%s\ndoes not say %s", text, want)
		}
	}
	if strings.Contains(text, "cret") || len(DiffOwn(was.Own(), was.Own())) > 0 {
		t.Error(text)
	}
}

func FuzzForAKeptVersion(f *testing.F) {
	c, err := Parse("/etc/masterd/shop.yaml", []byte("service: shop\n"+thenLines), nil, fakeHost())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(c.Own())
	f.Add([]byte(`{"listeners":[{"name":"http","address":"tcp://127.0.0.1:80"}],"keys":{"worker.kind":"unmodified","health.http.headers":{"a":"b"}}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		got, _ := c.For(Kept{Command: []string{"/bin/x"}, Own: text})
		w := got.Worker
		if w.User != "2000" || w.Group != "2000" || w.Processes != 20 || len(w.Capabilities) > 0 || w.Bounding() != c.Worker.Bounding() || w.NoNewPrivs != "auto" {
			t.Fatalf("%q brings %+v", text, w)
		}
		for _, l := range got.Listeners {
			if !slices.ContainsFunc(c.Listeners, func(x Listener) bool { return x.where() == l.where() }) {
				t.Fatalf("%q opens %s", text, l.Address)
			}
		}
		ShowOwn(text)
		DiffOwn(text, c.Own())
	})
}
