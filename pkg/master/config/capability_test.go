package config

import (
	"slices"
	"strings"
	"testing"
)

func TestBounding(t *testing.T) {
	const sysAdmin, netAdmin, chown, setuid, bind = 1 << 21, 1 << 12, 1 << 0, 1 << 7, 1 << 10
	for given, want := range map[string]struct{ has, hasNot uint64 }{
		"":                                        {chown | setuid | bind, sysAdmin | netAdmin},
		"capabilities: [cap_net_admin]":           {chown | setuid | netAdmin, sysAdmin},
		"capabilities: [NET_ADMIN, SYS_ADMIN]":    {chown | netAdmin | sysAdmin, 0},
		"capabilities: [ALL]":                     {^uint64(0), 0},
		"preset: nginx":                           {chown | setuid | bind, sysAdmin | netAdmin},
		"preset: caddy":                           {bind, chown | setuid | sysAdmin},
		"preset: caddy, capabilities: [SETUID]":   {bind | setuid, chown},
		"preset: gunicorn, no_new_privileges: no": {chown | setuid | bind, sysAdmin},
	} {
		c := parse(t, "service: shop\nlisteners: [{name: http, address: tcp://127.0.0.1:8080}]\nworker: {command: [bin/shop], "+given+"}\n")
		if got := c.Worker.Bounding(); got&want.has != want.has || got&want.hasNot != 0 {
			t.Errorf("%s: %x", given, got)
		}
	}
	w := Worker{Capabilities: []string{"net_admin", "CAP_CHOWN", "ALL", "BPF"}}
	if names := w.Beyond(chown); !slices.Equal(names, []string{"CAP_NET_ADMIN", "CAP_BPF"}) {
		t.Errorf("%v", names)
	}
	for _, p := range presets() {
		if _, err := capabilitiesOf(strings.Fields(p.capabilities)...); err != nil {
			t.Errorf("preset %s: %v", p.name, err)
		}
	}
	if names := capabilityNames(); len(names) != 41 || names[21] != "SYS_ADMIN" || names[40] != "CHECKPOINT_RESTORE" {
		t.Errorf("%d names: %v", len(names), names)
	}
	if _, err := capabilitiesOf("NET_ADMN"); err == nil || !strings.Contains(err.Error(), "CAP_NET_ADMIN") {
		t.Error(err)
	}
}
