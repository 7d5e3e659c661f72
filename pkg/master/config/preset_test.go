package config

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

const listened = "service: shop\nlisteners: [{name: http, address: \"tcp://127.0.0.1:8080\"}, {name: admin, address: \"unix:///run/shop.sock\"}]\n"

// A preset gives what was not given; what was, wins.
func TestPresets(t *testing.T) {
	const two = "service: shop\nlisteners: [{name: http, address: \"tcp://127.0.0.1:8080\"}, {name: admin, address: \"tcp6://[::1]:8081\"}]\n"
	c := parse(t, two+"worker: {command: [bin/nginx], preset: nginx}\n")
	if c.Worker.Kind != KindSocketActivation || c.Worker.StopSignal != "QUIT" || c.Drain.Signal != "none" {
		t.Errorf("%+v %+v", c.Worker, c.Drain)
	}
	if name, value := c.PresetEnv(); name != "NGINX" || value != "3;4;" {
		t.Errorf("%s=%s", name, value)
	}
	if got := Effective(c); !strings.Contains(got, "stop_signal: QUIT") || !strings.Contains(got, "# preset nginx\n") {
		t.Error(got)
	}

	c = parse(t, listened+"worker: {command: [bin/haproxy], preset: haproxy, stop_signal: INT}\n")
	if c.Worker.StopSignal != "INT" || c.Drain.Signal != "USR1" {
		t.Errorf("%+v %+v", c.Worker, c.Drain)
	}
	c = parse(t, listened+"worker: {command: [bin/haproxy], preset: haproxy}\ndrain: {command: [bin/drain]}\n")
	if c.Drain.Signal != "none" || c.Drain.Command[0] != "/etc/masterd/bin/drain" {
		t.Errorf("%+v", c.Drain)
	}
	c = parse(t, listened+"worker: {command: [bin/php-fpm], preset: php-fpm}\n")
	if name, value := c.PresetEnv(); name != "FPM_SOCKETS" || value != "127.0.0.1:8080=3,/run/shop.sock=4" {
		t.Errorf("%s=%s", name, value)
	}
	c = parse(t, "service: cache\nlisteners: [{name: redis, address: \"tcp://127.0.0.1:6379\"}]\nworker: {command: [bin/redis-server], preset: redis}\nhealth: {tcp: {}}\n")
	if c.Rollout.Surge != "replace" || c.SpeaksHTTP("redis") {
		t.Errorf("%+v", c.Rollout)
	}
	c = parse(t, listened+"worker: {command: [bin/gunicorn], preset: gunicorn}\n")
	if name, _ := c.PresetEnv(); name != "" {
		t.Error(name)
	}
}

// Each preset with each kind of listener works, or is refused; test/programs has
// the programs themselves take them.
func TestPresetsAndListeners(t *testing.T) {
	addresses := map[string]string{
		"tcp": "tcp://127.0.0.1:8080", "tcp4": "tcp4://:8080", "tcp6": "tcp6://[::1]:8080", "dual": "tcp://:8080", "unix": "unix:///run/shop.sock",
	}
	refused := map[string]string{
		"nginx/unix": "nginx finds its sockets by their paths", "puma/unix": "puma finds its sockets by their paths",
		"node/unix": "cannot be given a Unix socket", "caddy/unix": "cannot be given a Unix socket",
		"apache/unix": "cannot be given a Unix socket", "lighttpd/unix": "cannot be given a Unix socket", "php/unix": "cannot be given a Unix socket",
		"tomcat/unix": "cannot be given a Unix socket", "redis/unix": "cannot be given a Unix socket",
	}
	fpm := map[string]string{
		"tcp": "127.0.0.1:8080=3", "tcp4": "0.0.0.0:8080=3", "tcp6": "::1:8080=3", "dual": ":::8080=3", "unix": "/run/shop.sock=3",
	}
	for _, name := range presetNames()[1:] {
		for network, address := range addresses {
			text := fmt.Sprintf("service: shop\nlisteners: [{name: http, address: %q}]\nworker: {command: [bin/x], preset: %s}\n", address, name)
			c, err := Parse("/etc/masterd/masterd.yaml", []byte(text), nil, fakeHost())
			want := refused[name+"/"+network]
			if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("%s with %s: %v, want %q", name, address, err, want)
			}
			if err != nil {
				continue
			}
			if _, value := c.PresetEnv(); name == "php-fpm" && value != fpm[network] {
				t.Errorf("%s with %s: %q, want %q", name, address, value, fpm[network])
			}
			if c.Worker.NonBlocking != (name == "nginx") {
				t.Errorf("%s: non-blocking %v", name, c.Worker.NonBlocking)
			}
		}
	}
	// Without the preset, as another kind, nothing is known of it.
	parse(t, listened+"worker: {command: [bin/nginx], kind: socket-activation}\n")
}

// Two consumers at one time are not wanted unless asked for.
func TestServicesWithoutListeners(t *testing.T) {
	const consumer = "service: jobs\nworker: {command: [bin/jobs], kind: "
	if c := parse(t, consumer+"unmodified}\n"); c.Rollout.Bake != 0 || c.Rollout.Surge != "one" {
		t.Errorf("%+v", c.Rollout)
	}
	if c := parse(t, consumer+"unmodified}\nrollout: {bake: 1m}\n"); c.Rollout.Bake != time.Minute || c.Rollout.Surge != "one" {
		t.Errorf("%+v", c.Rollout)
	}
	if c := parse(t, consumer+"sdk}\n"); c.Rollout.Bake != 5*time.Minute || c.Rollout.Surge != "all" {
		t.Errorf("an SDK worker hands its background work over: %+v", c.Rollout)
	}
}

func TestExpandWorker(t *testing.T) {
	for text, want := range map[string]string{
		"":                              "",
		"--pid=/run/app-{worker}.pid":   "--pid=/run/app-7.pid",
		"{generation}/{worker}{worker}": "3/77",
		"{{worker}}{worker}{{worker":    "{worker}7{{worker",
		"{{{worker}}} {{generation}}":   "{{worker}} {generation}",
		"{{worker} {worker}}":           "{7 7}",
		"{Worker} {worker {workers} ${worker} {} {fd:http} {\"a\":1}": "{Worker} {worker {workers} $7 {} {fd:http} {\"a\":1}",
	} {
		if got := ExpandWorker(text, 7, 3); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

func TestExpandFDs(t *testing.T) {
	names := []string{"http", "admin"}
	for text, want := range map[string]string{
		"--fd={fd:http}": "--fd=3", "fd@{fd:admin},fd@{fd:http}": "fd@4,fd@3", "plain {x} {fd": "plain {x} {fd", "": "",
		"{{fd:http}}": "{fd:http}", "{{fd:x}}={fd:http}": "{fd:x}=3", "{{fd:http} {fd:http}}": "{3 3}", "{{{fd:x}}}": "{{fd:x}}",
	} {
		if got, err := ExpandFDs(text, names); err != nil || got != want {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	for text, want := range map[string]string{"{fd:htp}": "did you mean http?", "{fd:http": "closing brace", "{fd:metrics}": "the listeners are http, admin"} {
		if _, err := ExpandFDs(text, names); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
