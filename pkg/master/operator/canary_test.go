package operator

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/rollout"
)

// A reload's own steps are for it alone: the configuration that comes into force has its own.
func TestStepsOfOneReload(t *testing.T) {
	text := "service: shop\nstate_dir: /var/lib/shop\nlisteners: [{name: http, address: \"tcp://127.0.0.1:8080\"}]\nworker: {command: [/bin/shop]}\n" +
		"rollout: {canary: {steps: [{weight: 0.5%, hold: 1m}, {weight: 50%}], sticky: client, skip_baked: true}}\n"
	cfg, err := config.Parse("/etc/masterd/shop.yaml", []byte(text), nil, config.Host{})
	if err != nil {
		t.Fatal(err)
	}
	configured := []rollout.Step{{Weight: 50, Hold: time.Minute}, {Weight: 5000}}
	for _, x := range []struct {
		ask   api.ReloadRequest
		steps []rollout.Step
		skip  bool
	}{
		{api.ReloadRequest{}, configured, true},
		{api.ReloadRequest{Canary: "5%:30s,25%"}, []rollout.Step{{Weight: 500, Hold: 30 * time.Second}, {Weight: 2500}}, false},
		{api.ReloadRequest{SkipCanary: true}, nil, true},
	} {
		s, err := canary(cfg, x.ask)
		if err != nil || !reflect.DeepEqual(s.Steps, x.steps) || s.SkipBaked != x.skip || !s.Sticky {
			t.Errorf("%+v: %v %+v, %v", x.ask, err, s.Steps, s.SkipBaked)
		}
	}
	if s, err := canary(cfg, api.ReloadRequest{}); err != nil || !reflect.DeepEqual(s.Steps, configured) {
		t.Errorf("the next reload has %+v, %v", s.Steps, err)
	}
	if _, err := canary(cfg, api.ReloadRequest{Canary: "5"}); err == nil || !strings.Contains(err.Error(), "write 5%") {
		t.Errorf("5: %v", err)
	}
}

func TestSharesAreExact(t *testing.T) {
	for _, x := range []struct {
		part, whole uint32
		want        float64
	}{{1, 10000, 0.01}, {9999, 10000, 99.99}, {1, 3, 33.33}, {1, 8, 12.5}, {0, 5, 0}, {5, 5, 100}, {0, 0, 0}} {
		if got := percent(x.part, x.whole); got != x.want {
			t.Errorf("%d of %d is %v, want %v", x.part, x.whole, got, x.want)
		}
	}
}
