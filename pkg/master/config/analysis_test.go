package config

import (
	"strings"
	"testing"
)

func TestStepsThatAreOverTooSoon(t *testing.T) {
	const text = "worker: {command: [/bin/x]}\nlisteners: [{name: http, address: \"tcp://127.0.0.1:80\"}]\n"
	for rest, warned := range map[string]bool{
		"rollout: {canary: {steps: [{weight: 1%, hold: 5s}, {weight: 2%, hold: 5s}]}}\n": true,
		"rollout: {canary: {steps: [{weight: 1%, hold: 5s}, {weight: 2%, hold: 6s}]}}\n": false,
		"rollout: {canary: {steps: [{weight: 1%, hold: 5s}, {weight: 2%}]}}\n":           false,
		"rollout: {canary: {steps: [{weight: 1%, hold: 5s}], sticky: client}}\n":         false,
		"rollout: {canary: {steps: [{weight: 1%, hold: 5s}]}, analysis: {delay: 0}}\n":   false,
		"rollout: {canary: {steps: [{weight: 1%, hold: 5s}]}, analysis: {delay: 5s}}\n":  true,
		"rollout: {canary: {steps: []}}\n":                                               false,
	} {
		c := parsed(t, text+rest)
		if got := strings.Join(c.Warnings(), "\n"); strings.Contains(got, "nothing is compared before") != warned {
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
