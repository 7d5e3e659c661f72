package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/masterd/masterd/pkg/master/process"
	"github.com/masterd/masterd/pkg/master/state"
)

// sleeper is a process that lives until the test ends.
func sleeper(t *testing.T) (pid int, begun string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	begun, err := process.Begun(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid, begun
}

// left writes what a master that was killed leaves.
func (c *cli) left(name string, workers ...state.LiveWorker) {
	c.t.Helper()
	dir := filepath.Join(c.dir, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		c.t.Fatal(err)
	}
	text, err := state.Live{Boot: state.Boot(), Workers: workers}.Encode()
	if err == nil {
		err = state.KeepLive(dir, text)
	}
	if err != nil {
		c.t.Fatal(err)
	}
	socket := filepath.Join(dir, adminSocket)
	if err := listenAndDie(socket); err != nil {
		c.t.Fatal(err)
	}
}

// Workers that serve without a master are told of, with what to type; those that are gone,
// that leave, or whose number is somebody else's by now are not.
func TestWorkersWithoutMaster(t *testing.T) {
	c := newCLI(t)
	one, begun := sleeper(t)
	two, begunTwo := sleeper(t)
	leaving, begunLeaving := sleeper(t)
	c.left("shop", state.LiveWorker{PID: one, Begun: begun}, state.LiveWorker{PID: two, Begun: begunTwo},
		state.LiveWorker{PID: leaving, Begun: begunLeaving, Leaving: true}, state.LiveWorker{PID: os.Getpid(), Begun: "12"}, state.LiveWorker{})
	c.left("blog", state.LiveWorker{PID: os.Getpid(), Begun: "12"})
	serve := fmt.Sprintf("2 workers of shop (pids %d, %d) still serve; the next master takes them over: `masterd run`", one, two)
	c.want(3, "", "masterd: no master of shop is running; looked in $DIR\n"+serve+"\n", "status", "--service", "shop")
	c.want(3, "", "masterd: no master of blog is running; looked in $DIR\n", "status", "--service", "blog")
	if code, _, errs := c.run("status"); code != 3 || strings.Count(errs, "still serve") != 1 || !strings.HasSuffix(errs, serve+"\n") {
		t.Errorf("exit %d: %s", code, errs)
	}
	file := c.file(filepath.Join(c.dir, "shop.yaml"), "shop")
	serve = strings.ReplaceAll(serve, "`masterd run`", "`masterd run --config "+file+"`")
	c.want(3, "", "masterd: no master of shop is running: nobody listens on $DIR/shop/admin.sock\n"+serve+"\n", "status", "--config", file)
	_, out, _ := c.run("list")
	if !strings.Contains(out, "shop     no master") || !strings.Contains(out, "2 workers of shop") || strings.Contains(out, "blog") {
		t.Errorf("the list is\n%s", out)
	}
	// A directory that others could have made is not believed.
	if err := os.Chmod(filepath.Join(c.dir, "shop"), 0o777); err != nil {
		t.Fatal(err)
	}
	c.want(3, "", "masterd: no master of shop is running; looked in $DIR\n", "status", "--service", "shop")
}

func TestUnitOf(t *testing.T) {
	for text, want := range map[string]string{
		"0::/system.slice/masterd@shop.service/masterd-0a1b/w1\n":                                           "`systemctl start masterd@shop.service`",
		"1:name=systemd:/system.slice/masterd.service\n0::/\n":                                              "`systemctl start masterd.service`",
		"0::/user.slice/user-1000.slice/user@1000.service/app.slice/masterd@shop.service/masterd-0a1b/w1\n": "`systemctl --user start masterd@shop.service`",
		"0::/system.slice/cron.service\n":                                                                   "`masterd run --config /etc/shop.yaml`",
		"0::/user.slice/user-1000.slice/session-3.scope\n":                                                  "`masterd run --config /etc/shop.yaml`",
		"": "`masterd run --config /etc/shop.yaml`",
	} {
		u := unattended{service: "shop", config: "/etc/shop.yaml", pids: []int{7}}
		u.unit, u.user = unitOf(text)
		if got := u.String(); got != "one worker of shop (pid 7) still serves; the next master takes it over: "+want {
			t.Errorf("%q: %s", text, got)
		}
	}
}
