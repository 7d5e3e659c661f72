package config

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

const least = `service: shop
listeners:
  - name: http
    address: tcp://127.0.0.1:8080
worker:
  command: [bin/shop, --mode=prod]
`

// parse is Parse for tests that expect it to work.
func parse(t *testing.T, text string, env ...string) *Config {
	t.Helper()
	c, err := Parse("/etc/masterd/masterd.yaml", []byte(text), env, fakeHost())
	if err != nil {
		t.Fatalf("%v\nof\n%s", err, text)
	}
	return c
}

// The defaults are promised to operators: a change here is one of behaviour.
func TestDefaults(t *testing.T) {
	c := parse(t, least)
	c.source = source{}
	want := &Config{
		File: "/etc/masterd/masterd.yaml", Service: "shop", RuntimeDir: "/run/masterd/shop", StateDir: "/var/lib/masterd/shop",
		Listeners: []Listener{{Name: "http", Address: "tcp://127.0.0.1:8080", Network: "tcp", Host: "127.0.0.1", Port: 8080, Backlog: 4096, Steering: "auto"}},
		Worker: Worker{Kind: KindSDK, Command: []string{"/etc/masterd/bin/shop", "--mode=prod"}, Directory: "/etc/masterd", Processes: 1,
			Pin: "auto", Core: "inherit", NoNewPrivs: "auto", StopSignal: "TERM", Preset: "none", Ready: "auto", NotifyAccess: "main"},
		Health: Health{
			HTTP:   &HTTPCheck{Listener: "http", Scheme: "http", Method: "GET", Path: "/healthz", Status: []StatusRange{{200, 200}}},
			Start:  StartCheck{Interval: 50 * time.Millisecond, Successes: 2, Timeout: time.Minute, GiveUp: 5 * time.Second},
			Active: ActiveCheck{Interval: 2 * time.Second, Timeout: time.Second, Failures: 3},
			Warmup: Warmup{Concurrency: 4},
		},
		Rollout: Rollout{Bake: 5 * time.Minute, Surge: "all", MinReady: 5 * time.Second, Cooldown: 10 * time.Second, MaxPerMinute: 6, KeepVersions: 5,
			Memory: Memory{Reserve: 128 << 20, WhenShort: "refuse"}, Require: Require{Timeout: 10 * time.Second}, Canary: Canary{Sticky: "connection"},
			Analysis: Analysis{Latency: Latency{SlowerBy: 5000, AtLeast: 20 * time.Millisecond}, Act: "auto", Alpha: 100, Errors: Tolerance{Ratio: 1.5}, Delay: 10 * time.Second,
				WhenInconclusive: InconclusivePause, MaxWait: 15 * time.Minute}},
		Drain:       Drain{Timeout: 5 * time.Minute, MaxGenerations: 4, KillAfter: 5 * time.Second, Signal: "none", Handover: true, Parked: ParkedKeep},
		Restart:     Restart{Initial: 100 * time.Millisecond, Max: 10 * time.Second, Loop: 5, LoopWindow: time.Minute},
		Unavailable: Unavailable{After: 5 * time.Second, Answer: "503"},
		StopTimeout: time.Minute,
		State:       State{Blob: 64 << 20, Total: 256 << 20, Count: 64},
		Log:         Log{Level: "info", Format: "auto", PerWorker: 1 << 20, Line: 16 << 10},
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got\n%+v\n%+v\nwant\n%+v\n%+v", c, c.Health.HTTP, want, want.Health.HTTP)
	}
}

func TestEnvironmentOverridesScalars(t *testing.T) {
	text := least + "rollout: {bake: 1m, watch: false}\nlog: {file: logs/a.log}\n"
	c := parse(t, text, "MASTERD_ROLLOUT_BAKE=10s", "MASTERD_ROLLOUT_WATCH=true", "MASTERD_WORKER_PROCESSES=3", "MASTERD_LOG_FILE=logs/b.log",
		"MASTERD_HEALTH_HTTP_STATUS=200-299,404", "MASTERD_UNAVAILABLE_ANSWER=reset", "MASTERD_LOG_PER_WORKER=2MiB/s", "MASTERD_DRAIN_TIMEOUT=",
		"MASTERD_WORKER_LIMITS_NOFILE=1024", "PATH=/bin", "broken")
	if c.Rollout.Bake != 10*time.Second || !c.Rollout.Watch || c.Worker.Processes != 3 || c.Log.File != "/etc/masterd/logs/b.log" ||
		!reflect.DeepEqual(c.Health.HTTP.Status, []StatusRange{{200, 299}, {404, 404}}) || c.Unavailable.Answer != "reset" ||
		c.Log.PerWorker != 2<<20 || c.Drain.Timeout != 5*time.Minute || c.Worker.NoFile != 1024 {
		t.Errorf("%s", Effective(c))
	}
	if got := Effective(c); !strings.Contains(got, "# environment MASTERD_ROLLOUT_BAKE\n") || !strings.Contains(got, "# /etc/masterd/masterd.yaml:1\n") {
		t.Error(got)
	}
}

// A variable can make a check that the file has not.
func TestEnvironmentChoosesTheCheck(t *testing.T) {
	c := parse(t, least, "MASTERD_HEALTH_TCP_LISTENER=http")
	if c.Health.TCP == nil || c.Health.TCP.Listener != "http" || c.Health.HTTP != nil {
		t.Errorf("%+v", c.Health)
	}
}

// In a child of a master, MASTERD_SERVICE says whose child it is.
func TestServiceOfAChild(t *testing.T) {
	if c := parse(t, least, "MASTERD_SERVICE=other"); c.Service != "other" {
		t.Error(c.Service)
	}
	if c := parse(t, least, "MASTERD_SERVICE=other", "MASTERD_WORKER=7"); c.Service != "shop" {
		t.Error(c.Service)
	}
}

func TestWarnings(t *testing.T) {
	c := parse(t, least, "MASTERD_CONFIG=x", "MASTERD_WORKER=1", "MASTERD_SECRET=x", "MASTERD_TOUR_SPEED=2", "MYAPP_ROLLOUT_BAKE=1s",
		"MASTERD_ROLLOUT_BAEK=10s", "MASTERD_WORKER_COMMAND=x", "MASTERD_DRAIN_FOREVER=1", "MASTERD_"+strings.Repeat("X", 1000)+"=1")
	want := []string{
		"MASTERD_DRAIN_FOREVER is ignored: no key has that name",
		"MASTERD_ROLLOUT_BAEK is ignored: no key has that name; did you mean MASTERD_ROLLOUT_BAKE?",
		"MASTERD_WORKER_COMMAND is ignored: only single values can be overridden by the environment, and worker.command is not one",
	}
	if !reflect.DeepEqual(c.Warnings(), want) {
		t.Errorf("got\n%s", strings.Join(c.Warnings(), "\n"))
	}
}

// With one version after the other clients wait for the drain.
func TestLongWaitIsWarnedOf(t *testing.T) {
	for text, warned := range map[string]bool{
		"drain: {timeout: 5m}\n":                                                       false,
		"rollout: {surge: replace}\n":                                                  true,
		"rollout: {surge: replace}\ndrain: {timeout: 0}\n":                             true,
		"rollout: {surge: replace}\ndrain: {timeout: 5s}\n":                            false,
		"rollout: {surge: replace}\ndrain: {timeout: 6s}\nunavailable: {after: 10s}\n": false,
	} {
		got := parse(t, least+text).Warnings()
		if (len(got) == 1 && strings.HasPrefix(got[0], "drain.timeout (")) != warned || len(got) > 1 {
			t.Errorf("%q: %q", text, got)
		}
	}
}

// A bake that ends before failing checks count is said, whichever key makes it so.
func TestShortBakeIsWarnedOf(t *testing.T) {
	for text, warned := range map[string]bool{
		"":                          false,
		"rollout: {bake: 6s}\n":     false,
		"rollout: {bake: 5999ms}\n": true,
		"rollout: {bake: 0}\n":      false, // nothing is proven, as asked
		"rollout: {bake: 1m}\nhealth: {http: {}, active: {interval: 21s}}\n": true,
		"rollout: {bake: 1s}\nhealth: none\n":                                false,
		"rollout: {bake: 1s}\nhealth: {command: [./c]}\n":                    true,
	} {
		got := parse(t, least+text).Warnings()
		if (len(got) == 1 && strings.HasPrefix(got[0], "rollout.bake (")) != warned || len(got) > 1 {
			t.Errorf("%q: %q", text, got)
		}
	}
}

// viper would make gin_mode of GIN_MODE, and a mapping of a.b.
func TestNamesKeepTheirCase(t *testing.T) {
	c := parse(t, strings.Replace(least, "command:", "env: {GIN_MODE: release, Mixed_Case: 010, T: true, D: 2024-01-01, E: \"\", F: 1.50}\n  command:", 1)+
		"health:\n  http:\n    headers: {X-Api-KEY: a.b, accept: text/plain}\n")
	if want := map[string]string{"GIN_MODE": "release", "Mixed_Case": "010", "T": "true", "D": "2024-01-01", "E": "", "F": "1.50"}; !reflect.DeepEqual(c.Worker.Env, want) {
		t.Error(c.Worker.Env)
	}
	if want := map[string]string{"X-Api-KEY": "a.b", "accept": "text/plain"}; !reflect.DeepEqual(c.Health.HTTP.Headers, want) {
		t.Error(c.Health.HTTP.Headers)
	}
}

func TestChecks(t *testing.T) {
	for text, want := range map[string]string{
		"":                                     "http",
		"health:\n":                            "http",
		"health: {}\n":                         "http",
		"health: {start: {successes: 1}}\n":    "http",
		"health: {http: {}}\n":                 "http",
		"health: {http: {path: \"/x?y=z\"}}\n": "http",
		"health: {tcp: {}}\n":                  "tcp",
		"health: {tcp: {listener: http}}\n":    "tcp",
		"health: {command: [./check, 1.5]}\n":  "command",
		"health: none\n":                       "none",
		"health: {http: none}\n":               "none",
		"health: {http: none, command: []}\n":  "none",
		"health: {command: [], http: {}}\n":    "http",
		"health: {http: {status: 200-399}}\n":  "http",
		"health: {http: {status: [200, 3]}}\n": "refused",
	} {
		c, err := Parse("/etc/masterd/masterd.yaml", []byte(least+text), nil, fakeHost())
		got := "none"
		switch {
		case err != nil:
			got = "refused"
		case c.Health.HTTP != nil:
			got = "http"
		case c.Health.TCP != nil:
			got = "tcp"
		case c.Health.Command != nil:
			got = "command"
		}
		if got != want {
			t.Errorf("%q: %s, want %s (%v)", text, got, want, err)
		}
	}
	if c := parse(t, "service: s\nworker: {command: [./x]}\n"); c.Health.HTTP != nil || c.Health.Start.Timeout != time.Minute {
		t.Errorf("a service without listeners is checked: %+v", c.Health)
	}
}

func TestHooksTakeBothForms(t *testing.T) {
	for text, want := range map[string][][]string{
		"[]":                         nil,
		"[./a, -x, 1]":               {{"/etc/masterd/a", "-x", "1"}},
		"[[./a, -x], [gunicorn, b]]": {{"/etc/masterd/a", "-x"}, {"/usr/bin/gunicorn", "b"}},
	} {
		if c := parse(t, least+"rollout: {hooks: {before: "+text+"}}\n"); !reflect.DeepEqual(c.Rollout.Hooks.Before, want) {
			t.Errorf("%s: %v", text, c.Rollout.Hooks.Before)
		}
	}
}

func TestAddresses(t *testing.T) {
	for address, want := range map[string]Listener{
		"tcp://127.0.0.1:8080":        {Network: "tcp", Host: "127.0.0.1", Port: 8080},
		"tcp://:8080":                 {Network: "tcp", Port: 8080},
		"tcp://*:8080":                {Network: "tcp", Port: 8080},
		"tcp://localhost:80":          {Network: "tcp", Host: "127.0.0.1", Port: 80},
		"tcp6://localhost:80":         {Network: "tcp6", Host: "::1", Port: 80},
		"tcp4://0.0.0.0:80":           {Network: "tcp4", Host: "0.0.0.0", Port: 80},
		"tcp6://[::]:80":              {Network: "tcp6", Host: "::", Port: 80},
		"tcp://[0:0:0:0:0:0:0:1]:443": {Network: "tcp", Host: "::1", Port: 443},
		"unix:///run/shop.sock":       {Network: "unix", Path: "/run/shop.sock", Mode: 0o666},
		"unix:///run//shop.sock?mode=0660&group=www-data": {Network: "unix", Path: "/run/shop.sock", Mode: 0o660, Group: "www-data"},
	} {
		c := parse(t, "service: s\nlisteners: [{name: a, address: \""+address+"\"}]\nworker: {command: [./x]}\n")
		want.Name, want.Address, want.Backlog, want.Steering = "a", address, 4096, "auto"
		if c.Listeners[0] != want {
			t.Errorf("%s: %+v", address, c.Listeners[0])
		}
	}
}

func TestDirectories(t *testing.T) {
	ordinary := fakeHost()
	ordinary.Root, ordinary.UID, ordinary.Home = false, 1000, "/home/ann"
	xdg := ordinary
	xdg.Runtime, xdg.State = "/run/user/1000", "/state"
	far := ordinary
	far.State = "/" + strings.Repeat("x", 50)
	running := xdg // since before the default was another
	running.InUse = func(dir string) bool { return dir == "/tmp/masterd-1000/shop" }
	homeless := ordinary
	homeless.Home = ""
	nowhere := ordinary // a service's user, whose home was never made
	nowhere.Home, nowhere.Makeable = "/nonexistent", func(dir string) bool { return !strings.HasPrefix(dir, "/nonexistent/") }
	full := running // its file system has become read-only since
	full.Makeable = func(string) bool { return false }
	for _, test := range []struct {
		host               Host
		extra              string
		runtime, state, no string
	}{
		{fakeHost(), "", "/run/masterd/shop", "/var/lib/masterd/shop", ""},
		{ordinary, "", "/home/ann/.local/state/masterd/.run/shop", "/home/ann/.local/state/masterd/shop", ""},
		{far, "", "/tmp/masterd-1000/shop", far.State + "/masterd/shop", ""}, // too long for sockets
		{nowhere, "state_dir: /state\n", "/tmp/masterd-1000/shop", "/state", ""},
		{full, "", "/tmp/masterd-1000/shop", "/state/masterd/shop", ""},
		{running, "", "/tmp/masterd-1000/shop", "/state/masterd/shop", ""},
		{xdg, "", "/run/user/1000/masterd-1000/shop", "/state/masterd/shop", ""},
		{xdg, "runtime_dir: run\nstate_dir: ../state\n", "/etc/masterd/run", "/etc/state", ""},
		{homeless, "", "", "", "state_dir"},
	} {
		c, err := Parse("/etc/masterd/masterd.yaml", []byte(least+test.extra), nil, test.host)
		switch {
		case test.no != "":
			if err == nil || !strings.Contains(err.Error(), test.no) {
				t.Errorf("%+v: %v", test.host, err)
			}
		case err != nil:
			t.Error(err)
		case c.RuntimeDir != test.runtime || c.StateDir != test.state:
			t.Errorf("%s, %s; want %s, %s", c.RuntimeDir, c.StateDir, test.runtime, test.state)
		}
	}
}

func TestWorkerForms(t *testing.T) {
	c := parse(t, `service: shop
worker:
  command: [gunicorn, --workers=4, 8, true, ""]
  directory: app
  env_files: [secrets.env, /etc/x.env]
  user: "1000"
  group: 1000
  stop_signal: SIGQUIT
`)
	w := c.Worker
	if !reflect.DeepEqual(w.Command, []string{"/usr/bin/gunicorn", "--workers=4", "8", "true", ""}) || w.Directory != "/etc/masterd/app" ||
		!reflect.DeepEqual(w.EnvFiles, []string{"/etc/masterd/secrets.env", "/etc/x.env"}) || w.User != "1000" || w.Group != "1000" || w.StopSignal != "QUIT" {
		t.Errorf("%+v", w)
	}
}

func TestAliases(t *testing.T) {
	c := parse(t, least+"rollout:\n  bake: &t 7m\n  hooks:\n    after: &h [[./tell]]\n    failed: *h\ndrain: {timeout: *t}\n")
	if c.Drain.Timeout != 7*time.Minute || len(c.Rollout.Hooks.Failed) != 1 {
		t.Errorf("%+v %+v", c.Drain, c.Rollout.Hooks)
	}
	// The two lists must not share what was made absolute in one of them.
	if c.Rollout.Hooks.Failed[0][0] != "/etc/masterd/tell" || c.Rollout.Hooks.After[0][0] != "/etc/masterd/tell" {
		t.Error(c.Rollout.Hooks)
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "shop.yaml")
	if err := os.WriteFile(path, []byte(least), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(path, []string{"HOME=" + dir})
	if err != nil {
		t.Fatal(err)
	}
	if c.File != path || string(c.Source()) != least || c.Worker.Command[0] != filepath.Join(dir, "bin/shop") {
		t.Errorf("%+v", c)
	}

	t.Chdir(dir)
	if c, err = Load("shop.yaml", []string{"HOME=" + dir}); err != nil || !filepath.IsAbs(c.File) {
		t.Error(c, err)
	}

	big := filepath.Join(dir, "big")
	if err := os.WriteFile(big, make([]byte, maxFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		filepath.Join(dir, "none"): "there is no such file; name another with --config or MASTERD_CONFIG",
		dir:                        "it is a directory; name the file in it",
		big:                        "it is larger than 1024 KiB; a configuration is a small file of YAML",
		fifo:                       "it is not a regular file; a configuration is a small file of YAML",
		"/dev/zero":                "it is not a regular file; a configuration is a small file of YAML",
		path + "/x":                "it cannot be read",
	} {
		_, err := Load(path, nil)
		var p *Problems
		if !errors.As(err, &p) || !strings.HasPrefix(err.Error(), path+": "+want) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if _, err := Load(filepath.Join(dir, "none"), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v is not fs.ErrNotExist", err)
	}
}

func TestSystemHost(t *testing.T) {
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"good": 0o755, "plain": 0o644} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	h := SystemHost([]string{"PATH=relative:" + dir, "XDG_RUNTIME_DIR=relative", "HOME=" + dir})
	if h.Runtime != "" || h.Temp != "/tmp" {
		t.Errorf("%+v", h)
	}
	if p, err := h.Program("good"); err != nil || p != filepath.Join(dir, "good") {
		t.Error(p, err)
	}
	for _, name := range []string{"plain", "missing"} {
		if p, err := h.Program(name); err == nil {
			t.Error(name, p)
		}
	}
	if h.User("root") != nil || h.User("0") != nil || h.User("no such user") == nil || h.Group("0") != nil || h.Group("no such group") == nil {
		t.Error("lookups")
	}
}

// Keys that begin with x- are places for anchors, and "<<" brings in what they have.
func TestAnchors(t *testing.T) {
	c := parse(t, `
x-variables: &variables {GIN_MODE: release, TZ: UTC}
x-more:
  - &limits {nofile: 4096, core: none}
  - {anything: [goes, here]}
service: shop
listeners:
  - &one {name: http, address: "tcp://127.0.0.1:8080", backlog: 100}
  - {<<: *one, name: admin, address: "tcp://127.0.0.1:8081"}
worker:
  command: [bin/shop]
  limits: {core: unlimited, <<: *limits}
  env:
    <<: [*variables, {TZ: CET, A: b}]
    GIN_MODE: debug
`)
	if c.Worker.NoFile != 4096 || c.Worker.Core != "unlimited" {
		t.Errorf("%+v", c.Worker)
	}
	if want := map[string]string{"GIN_MODE": "debug", "TZ": "UTC", "A": "b"}; !maps.Equal(c.Worker.Env, want) {
		t.Errorf("%v, want %v", c.Worker.Env, want)
	}
	if l := c.Listeners; len(l) != 2 || l[1].Name != "admin" || l[1].Backlog != 100 || l[0].Backlog != 100 || l[1].Port != 8081 {
		t.Errorf("%+v", l)
	}
	if again := parse(t, Effective(c)); !reflect.DeepEqual(again.Listeners, c.Listeners) {
		t.Errorf("%+v, want %+v", again.Listeners, c.Listeners)
	}
}

// What looks like a variable is taken as it is written, and told.
func TestUnexpanded(t *testing.T) {
	c := parse(t, `
service: shop
worker:
  command: [bin/shop, "--port=${PORT}", $HOME, "{worker}"]
  directory: "${HOME}/shop"
  env: {URL: "postgres://${DB_HOST:-localhost}/", PLAIN: "$5"}
rollout:
  hooks:
    before: [[/bin/sh, -c, "echo ${RELEASE}"], [/usr/bin/env, "X=${X}"]]
`)
	var got []string
	for _, w := range c.Warnings() {
		key, rest, _ := strings.Cut(w, ": ")
		if strings.Contains(rest, "} is not expanded, masterd takes values as they are written") {
			got = append(got, key+" "+rest[:strings.Index(rest, "}")])
		}
	}
	slices.Sort(got)
	if want := []string{"rollout.hooks.before[1][1] ${X", "worker.command[1] ${PORT", "worker.directory ${HOME", "worker.env.URL ${DB_HOST"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q of %q", got, want, c.Warnings())
	}
}

func TestAsArguments(t *testing.T) {
	for line, want := range map[string]string{
		"bin/shop": `["bin/shop"]`,
		"  bin/shop   --a=b 'c d' \"e \\\" f\"  ": `["bin/shop", "--a=b", "c d", "e \" f"]`,
		`bin/shop '' "" x"y"'z'`:                  `["bin/shop", "", "", "xyz"]`,
		`bin/shop "\d+\"" \d`:                     `["bin/shop", "\\d+\"", "d"]`,
		"bin/shop '$HOME <html>'":                 `["bin/shop", "$HOME <html>"]`,
		"a=b bin/shop":                            `["/bin/sh", "-c", "a=b bin/shop"]`,
		"bin/shop \"$HOME\"":                      `["/bin/sh", "-c", "bin/shop \"$HOME\""]`,
		"bin/shop | tee log":                      `["/bin/sh", "-c", "bin/shop | tee log"]`,
		"it's":                                    `["/bin/sh", "-c", "it's"]`,
		"":                                        "",
		strings.Repeat("x", maxRewritten+1):       "",
	} {
		if got, _ := asArguments(line); got != want {
			t.Errorf("%s\n got %s\nwant %s", line, got, want)
		}
	}
}
