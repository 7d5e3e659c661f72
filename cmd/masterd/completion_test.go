package main

import (
	"strings"
	"testing"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/admin/admintest"
)

func TestCompletionScripts(t *testing.T) {
	c := newCLI(t)
	for shell, mark := range map[string]string{"bash": "__start_masterd", "zsh": "#compdef masterd", "fish": "complete -c masterd"} {
		code, out, errs := c.run("completion", shell)
		if code != 0 || !strings.Contains(out, mark) || errs != "" {
			t.Errorf("%s: exit %d, %d bytes, %s", shell, code, len(out), errs)
		}
	}
}

func TestCompletionAsksTheMaster(t *testing.T) {
	c := newCLI(t)
	st := servingStatus()
	c.service("shop", &admintest.Backend{StatusIs: st, VersionsAre: []api.Version{
		{ID: "1", Label: "v2", Digest: "sha256:ffee00112233445566", Use: "active"}, {ID: "2", Digest: "sha256:0a1b2c3d4e5f"},
	}})
	for _, w := range []struct{ line, want string }{
		{"rollback ", "v2\tactive, ffee00112233\n2\t0a1b2c3d4e5f\n:36\n"},
		{"rollback v2 ", ":4\n"},
		{"versions diff v2 ", "v2\tactive, ffee00112233\n2\t0a1b2c3d4e5f\n:36\n"},
		{"versions pin ", "v2\tactive, ffee00112233\n2\t0a1b2c3d4e5f\n:36\n"},
		{"logs --worker ", "12\tgeneration 7, v1.2.3, active\n13\tgeneration 7, v1.2.3, active\n:36\n"},
		{"reload --service ", "shop\n:4\n"},
		{"reload --until ", "serving\nbaked\n:4\n"},
		{"completion ", "bash\nzsh\nfish\n:4\n"},
	} {
		args := append([]string{"__complete"}, strings.Split(w.line, " ")...)
		code, out, _ := c.run(args...)
		if code != 0 || out != w.want {
			t.Errorf("%q: exit %d, %q, want %q", w.line, code, out, w.want)
		}
	}
	// With nobody there to ask it is silent.
	alone := newCLI(t)
	if code, out, _ := alone.run("__complete", "rollback", ""); code != 0 || out != ":4\n" {
		t.Errorf("alone: exit %d, %q", code, out)
	}
}
