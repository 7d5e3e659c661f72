package config

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

const steps = least + `rollout:
  canary:
    steps: [{weight: 1%, hold: 30s}, {weight: 12.5%, hold: 1h}, {weight: 99.99%}]
    sticky: client
    skip_baked: true
`

func TestCanary(t *testing.T) {
	c := parse(t, steps)
	want := Canary{Sticky: StickyClient, SkipBaked: true, Steps: []Step{{100, 30 * time.Second}, {1250, time.Hour}, {9999, 0}}}
	if !reflect.DeepEqual(c.Rollout.Canary, want) {
		t.Errorf("%+v", c.Rollout.Canary)
	}
	if w := c.Warnings(); len(w) != 0 {
		t.Errorf("warned of %q", w)
	}
	if line := "steps: [{weight: 1%, hold: 30s}, {weight: 12.5%, hold: 1h}, {weight: 99.99%}]  # /etc/masterd/masterd.yaml:"; !strings.Contains(
		strings.Join(strings.Fields(Effective(c)), " "), strings.Join(strings.Fields(line), " ")) {
		t.Errorf("it is not shown:\n%s", Effective(c))
	}
	d := parse(t, strings.Replace(steps, "hold: 30s", "hold: 31s", 1))
	changes := Diff(c, d)
	if len(changes) != 1 || changes[0].Key != stepsPath || !strings.Contains(changes[0].New, "hold: 31s") || changes[0].Restart {
		t.Errorf("the difference is %+v", changes)
	}
	if changes := Diff(c, parse(t, strings.Replace(steps, "[{weight: 1%, hold: 30s}", "\n      - hold: 30000ms\n        weight: 1.00%\n      - {weight: 12.5%, hold: 60m}\n      - {weight: 99.99%}\n    #", 1))); len(changes) != 0 {
		t.Errorf("the same in other words differs: %+v", changes)
	}
}

// What is short in one place only is told as a warning: the service runs.
func TestCanaryWarnsWhereKeptConnectionsStay(t *testing.T) {
	for text, why := range map[string]string{
		steps + "drain: {handover: false}\n":                                    "drain.handover: false",
		strings.Replace(steps, "worker:\n", "worker:\n  kind: unmodified\n", 1): "worker.kind: unmodified",
	} {
		w := parse(t, text).Warnings()
		if !slices.ContainsFunc(w, func(s string) bool { return strings.HasPrefix(s, stepsPath) && strings.Contains(s, why) }) {
			t.Errorf("warned of %q, not that %s", w, why)
		}
	}
}

func TestPercent(t *testing.T) {
	for text, want := range map[string]uint32{"1%": 100, "0.01%": 1, "0.5%": 50, "99.99%": 9999, "05%": 500, "12.30%": 1230, "100%": 10000} {
		if n, err := parsePercent(text); err != nil || n != want {
			t.Errorf("%s is %d, %v", text, n, err)
		}
	}
	for n := range uint32(allWeight) {
		if again, err := parsePercent(showPercent(n)); err != nil || again != n {
			t.Fatalf("%d is shown as %s, which is %d, %v", n, showPercent(n), again, err)
		}
	}
	for _, text := range []string{"", "%", "1", "1,5%", "1.%", ".5%", "1 %", "1.234%", "1e1%", "+1%", "0x1%", "1%%", "NaN%", "９%", strings.Repeat("9", 400) + "%"} {
		if n, err := parsePercent(text); err == nil {
			t.Errorf("%q is %d", text, n)
		}
	}
	for _, text := range []string{"-1%", "0%", "0.00%", "999999999%", "42949673%"} {
		k := newSchema().byPath[stepsPath+"[].weight"]
		if err := assign(field{k.Path, k, new(uint32)}, text); err == nil || !strings.Contains(err.Error(), "out of range") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestWithCanary(t *testing.T) {
	c := parse(t, steps)
	d, err := WithCanary(c, "5%:1m30s,25%")
	if err != nil {
		t.Fatal(err)
	}
	if want := (Canary{Sticky: StickyClient, Steps: []Step{{500, 90 * time.Second}, {2500, 0}}}); !reflect.DeepEqual(d.Rollout.Canary, want) {
		t.Errorf("%+v", d.Rollout.Canary)
	}
	if len(c.Rollout.Canary.Steps) != 3 || !c.Rollout.Canary.SkipBaked {
		t.Error("what it is made of has changed")
	}
	for text, want := range map[string]string{
		"":                                 `step 1: "" is not a percentage`,
		"5":                                `step 1: 5 has no unit; write 5%`,
		"5%,":                              `step 2: "" is not a percentage`,
		"5%:":                              `step 1: "" is not a duration`,
		"5%:30":                            `step 1: 30 has no unit; write 30s, 30m or 30ms`,
		"5%:0":                             "step 1: \"0\" is not how long a step can hold; remove hold, and the step waits for `masterd promote`",
		"5%:1m:2m":                         `step 1: "1m:2m" is not a duration`,
		"5%:169h":                          `step 1: 169h is out of range; allowed is 100ms to 168h`,
		"25%,5%":                           `step 2: 5% is not more than 25% of the step before; steps have to grow`,
		"50%,100%":                         `step 2: 100% is no step: all new connections come after the last step by themselves`,
		"5%, 25%":                          `step 2: " 25%" is not a percentage`,
		strings.Repeat("1%,", maxSteps+10): "there are 27 steps, at most 16 are allowed",
	} {
		if d, err := WithCanary(c, text); err == nil || !strings.HasPrefix(err.Error(), want) || d != nil {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
	for text, want := range map[string]string{
		"service: s\nworker: {command: [./x]}\n":                                   "there are no listeners",
		least + "rollout: {surge: one}\n":                                          "rollout.surge is one",
		least + "rollout: {surge: replace}\n":                                      "rollout.surge is replace",
		strings.Replace(least, "tcp://127.0.0.1:8080", "unix:///run/shop.sock", 1): "listener http is a Unix socket",
		strings.Replace(least, ":8080\n", ":8080\n    steering: shared\n", 1):      "listener http has steering: shared",
	} {
		if _, err := WithCanary(parse(t, text), "5%"); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %s, of\n%s", err, want, text)
		}
	}
}
