package config

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestStepsThatAreOverTooSoon(t *testing.T) {
	const text = "worker: {command: [/bin/x]}\nlisteners: [{name: http, address: \"tcp://127.0.0.1:80\"}]\n"
	for rest, warned := range map[string]bool{
		"rollout: {canary: {steps: [{weight: 1%, hold: 5s}, {weight: 2%, hold: 5s}]}, analysis: {max_wait: 0}}\n": true,
		"rollout: {canary: {steps: [{weight: 1%, hold: 5s}, {weight: 2%, hold: 6s}]}, analysis: {max_wait: 0}}\n": false,
		"rollout: {canary: {steps: [{weight: 1%, hold: 5s}]}, analysis: {max_wait: 5s}}\n":                        true,
		"rollout: {canary: {steps: [{weight: 1%, hold: 5s}]}, analysis: {max_wait: 6s}}\n":                        false,
		"rollout: {canary: {steps: [{weight: 1%, hold: 5s}]}, analysis: {act: report}}\n":                         true,
		"rollout: {canary: {steps: [{weight: 1%, hold: 5s}, {weight: 2%}]}}\n":                                    false,
		"rollout: {canary: {steps: [{weight: 1%, hold: 5s}], sticky: client}}\n":                                  false,
		"rollout: {canary: {steps: [{weight: 1%, hold: 5s}]}, analysis: {delay: 0, max_wait: 0}}\n":               false,
		"rollout: {canary: {steps: [{weight: 1%, hold: 5s}]}, analysis: {delay: 5s, max_wait: 0}}\n":              true,
		"rollout: {canary: {steps: []}}\n": false,
	} {
		c := parsed(t, text+rest)
		if got := strings.Join(c.Warnings(), "\n"); strings.Contains(got, "nothing is compared before") != warned {
			t.Errorf("%s: %q", rest, got)
		}
	}
}

func TestRollbacksThatNeverCome(t *testing.T) {
	const text = "listeners: [{name: http, address: \"tcp://127.0.0.1:80\"}]\n"
	const sdk, steps = "worker: {command: [/bin/x]}\n", "canary: {steps: [{weight: 1%, hold: 5m}]"
	for rest, why := range map[string]string{
		sdk + "rollout: {" + steps + "}, analysis: {when_inconclusive: rollback}}\n":                                          "",
		sdk + "rollout: {analysis: {when_inconclusive: rollback, act: report}}\n":                                             "",
		sdk + "rollout: {" + steps + "}, analysis: {when_inconclusive: pause, act: report}}\n":                                "",
		sdk + "rollout: {" + steps + "}, analysis: {when_inconclusive: rollback, act: report}}\n":                             "rollout.analysis.act: report",
		sdk + "rollout: {" + steps + "}, analysis: {when_inconclusive: rollback, max_wait: 0}}\n":                             "rollout.analysis.max_wait: 0",
		sdk + "rollout: {" + steps + ", sticky: client}, analysis: {when_inconclusive: rollback}}\n":                          "rollout.canary.sticky: client",
		"worker: {command: [/bin/x], kind: unmodified}\nrollout: {" + steps + "}, analysis: {when_inconclusive: rollback}}\n": "worker.kind: unmodified",
	} {
		got := strings.Join(parsed(t, text+rest).Warnings(), "\n")
		if strings.Contains(got, "rollout.analysis.when_inconclusive: with "+why+" nothing is") != (why != "") {
			t.Errorf("%s: %q", rest, got)
		}
	}
}

func TestDecimals(t *testing.T) {
	for text, want := range map[string]float64{"1.5": 1.5, "1": 1, "0": 0, "100.25": 100.25} {
		if n, err := parseDecimal(text); err != nil || n != want || showDecimal(n) != text {
			t.Errorf("%s: %v, %v", text, n, err)
		}
	}
	for _, text := range []string{"", ".", "1.", ".5", "-1", "+1", "1e3", "NaN", "Inf", "0x1", "1,5", "1_0", " 1", "1.5%"} {
		if n, err := parseDecimal(text); err == nil {
			t.Errorf("%q is %v", text, n)
		}
	}
}

func TestMeasuresAreRead(t *testing.T) {
	const measures = least + "rollout:\n  analysis: {act: all, measures: [{name: orders_failed, ratio: 1.2}, {name: carts}], " +
		"latency: {slower_by: 1000%, at_least: 5ms}}\n"
	c := parse(t, measures)
	a := c.Rollout.Analysis
	if want := []Measure{{"orders_failed", 1.2}, {"carts", 1.5}}; a.Act != ActAll || !slices.Equal(a.Measures, want) ||
		a.Latency != (Latency{100_000, 5 * time.Millisecond}) {
		t.Errorf("%+v", a)
	}
	if d := parse(t, Effective(c)); !reflect.DeepEqual(c.Rollout, d.Rollout) {
		t.Errorf("not the same after\n%s", Effective(c))
	}
	d := parse(t, strings.Replace(measures, "1.2", "1.3", 1))
	if changes := Diff(c, d); len(changes) != 1 || changes[0].Key != measuresPath || !strings.Contains(changes[0].New, "ratio: 1.3") {
		t.Errorf("the difference is %+v", changes)
	}
	for list, want := range map[string]string{
		"[{ratio: 2}]":                         "measures[0].name: must be given",
		"[{name: a}, {name: a}]":               `measures[1].name: "a" is there twice`,
		"[{name: latency}]":                    "latency is what masterd calls",
		"[{name: a-b}]":                        `"a-b" is not a name`,
		"[{name: a, ratio: 0.5}]":              "0.5 is out of range",
		"[orders_failed]":                      "write {name: orders_failed}",
		"orders_failed":                        "write measures: [{name: orders_failed}]",
		"[{}, {}, {}, {}, {}, {}, {}, {}, {}]": "has 9 items, at most 8",
	} {
		text := least + "rollout: {analysis: {measures: " + list + "}}\n"
		if _, err := Parse("/etc/masterd/masterd.yaml", []byte(text), nil, fakeHost()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", list, err, want)
		}
	}
}
