package config

import (
	"fmt"
	"maps"
	"reflect"
	"strings"
	"testing"
)

// rich uses every key in a form that is not the default.
const rich = `service: rich
environment: production
runtime_dir: run
state_dir: /srv/state
listeners:
  - {name: http, address: "tcp://[::1]:8080", backlog: 16, steering: kernel}
  - {name: local, address: "unix:///run/rich.sock?mode=0600&group=www-data", steering: shared}
worker:
  kind: socket-activation
  command: [bin/rich, "", "a b", "ä\t\"\\", "true", "5m", "- x", "a: b", "#c", "null", "%d", "@x", "\U0001F600"]
  directory: /srv/rich
  processes: 3
  pin: copy
  env: {GIN_MODE: release, SECRET: hunter2}
  env_files: [a.env]
  user: www-data
  group: www-data
  limits: {nofile: 4096}
  stop_signal: INT
health:
  http: {listener: local, scheme: h2c, method: HEAD, path: "/x?y=z", host: "rich.example:80", headers: {Authorization: hunter3}, status: [200, "301-302"]}
  start: {interval: 1s, successes: 1, timeout: 1h}
  active: {interval: 1500ms, timeout: 90s, failures: 1}
  warmup: {path: /w, requests: 9, concurrency: 2}
rollout:
  bake: 90m
  surge: one
  min_ready: 1m
  watch: true
  cooldown: 0
  max_per_minute: 1
  keep_versions: 1
  memory: {reserve: 1.5GB, when_short: one}
  hooks: {before: [[./a, b], [./c]], after: [./d], failed: [[./e]]}
  canary: {sticky: client, skip_baked: true}
drain: {timeout: 0s, max_generations: 1, handover: false}
restart: {initial: 1s, max: 1m, loop: 2, loop_window: 1h}
unavailable: {after: 1ms, answer: hold}
stop_timeout: 1h1s
admin: {readers_group: www-data, operators_group: www-data}
log: {level: debug, format: json, file: a.log, per_worker: 1000kB/s, line: 1000B}
`

func TestEffectiveCanBeReadBack(t *testing.T) {
	for _, text := range []string{
		least, strings.Replace(rich, "timeout: 90s", "timeout: 9s", 1), least + "health: none\n", least + "health: {tcp: {}}\n",
		least + "health: {command: [./c, x]}\n", "service: s\nworker: {command: [./x]}\n", steps,
	} {
		c := parse(t, text)
		shown := Effective(c)
		for _, secret := range []string{"hunter2", "hunter3"} {
			if strings.Contains(shown, secret) {
				t.Errorf("a secret is shown:\n%s", shown)
			}
		}
		d := parse(t, shown)
		unhide(c, d)
		if !reflect.DeepEqual(c, d) {
			t.Errorf("not the same after\n%s\n%+v\n%+v", shown, c, d)
		}
	}
}

// unhide takes away what Effective does not show, after checking that the names are.
func unhide(c, d *Config) {
	hide := func(a, b map[string]string) map[string]string {
		for name := range b {
			b[name] = a[name]
		}
		if len(a) == 0 { // nil or empty
			return maps.Clone(b)
		}
		return a
	}
	c.Worker.Env = hide(c.Worker.Env, d.Worker.Env)
	if c.Health.HTTP != nil && d.Health.HTTP != nil {
		c.Health.HTTP.Headers = hide(c.Health.HTTP.Headers, d.Health.HTTP.Headers)
	}
	for _, lists := range []*[]string{&c.Worker.EnvFiles, &d.Worker.EnvFiles, &c.Health.Command, &d.Health.Command} {
		if len(*lists) == 0 {
			*lists = nil
		}
	}
	c.source, d.source = source{}, source{}
}

// A Config that was built by hand has no origins, and nothing is claimed.
func TestEffectiveOfAConfigThatWasNotParsed(t *testing.T) {
	c := &Config{Service: "x", Listeners: []Listener{{Name: "http"}}, Health: Health{HTTP: &HTTPCheck{}}}
	if got := Effective(c); strings.Contains(got, "#") {
		t.Error(got)
	}
}

func TestDiff(t *testing.T) {
	old := parse(t, least)
	if changes := Diff(old, parse(t, "# moved\n"+least+"rollout: {bake: 300s}\n")); len(changes) > 0 {
		t.Errorf("the same in other words: %v", changes)
	}
	new := parse(t, `service: store
listeners:
  - {name: metrics, address: "tcp://:9090"}
  - {name: http, address: "tcp://127.0.0.1:8081"}
worker:
  command: [bin/shop, --mode=test]
  env: {A: "1"}
health: {tcp: {listener: http}}
admin: {readers_group: www-data}
`)
	var got []string
	restart := 0
	for _, c := range Diff(old, new) {
		line := c.String()
		if c.Restart {
			line += " (restart)"
			restart++
		}
		got = append(got, line)
	}
	want := `service: shop → store (restart)
runtime_dir: /run/masterd/shop → /run/masterd/store (restart)
state_dir: /var/lib/masterd/shop → /var/lib/masterd/store (restart)
listeners[http].address: tcp://127.0.0.1:8080 → tcp://127.0.0.1:8081
listeners[metrics].address: tcp://:9090 added
listeners[metrics].backlog: 4096 added
listeners[metrics].steering: auto added
worker.command: [/etc/masterd/bin/shop, "--mode=prod"] → [/etc/masterd/bin/shop, "--mode=test"]
worker.env.A: (set) added
health.http.listener: http removed
health.http.scheme: http removed
health.http.method: GET removed
health.http.path: /healthz removed
health.http.host: "" removed
health.http.status: 200 removed
health.tcp.listener: http added
admin.readers_group: "" → www-data (restart)`
	if strings.Join(got, "\n") != want {
		t.Errorf("got\n%s", strings.Join(got, "\n"))
	}

	secret := parse(t, strings.Replace(least, "worker:", "worker:\n  env: {A: x}", 1))
	other := parse(t, strings.Replace(least, "worker:", "worker:\n  env: {A: y}", 1))
	if c := Diff(secret, other); len(c) != 1 || c[0].String() != "worker.env.A: changed" {
		t.Error(c)
	}
}

func TestWithCommand(t *testing.T) {
	c := parse(t, least)
	d := WithCommand(c, "/tmp/new")
	if d.Worker.Command[0] != "/tmp/new" || d.Worker.Command[1] != "--mode=prod" || c.Worker.Command[0] != "/etc/masterd/bin/shop" || d == c {
		t.Error(c.Worker, d.Worker)
	}
}

// String is the change as one line.
func (c Change) String() string {
	switch {
	case c.Old == "":
		return fmt.Sprintf("%s: %s added", c.Key, c.New)
	case c.New == "":
		return fmt.Sprintf("%s: %s removed", c.Key, c.Old)
	case c.Old == c.New:
		return fmt.Sprintf("%s: changed", c.Key)
	}
	return fmt.Sprintf("%s: %s → %s", c.Key, c.Old, c.New)
}
