package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/admin/admintest"
)

// listenAndDie leaves a socket's name as a process does that is killed.
func listenAndDie(path string) error {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		return err
	}
	l.SetUnlinkOnClose(false)
	return l.Close()
}

func TestList(t *testing.T) {
	c := newCLI(t)
	c.want(0, "No running service was found in $DIR.\n", "", "list")
	c.want(0, "{\n  \"schema\": 1,\n  \"services\": []\n}\n", "", "list", "--json")

	c.service("shop", &admintest.Backend{StatusIs: servingStatus()})
	c.service("blog", &admintest.Backend{StatusIs: api.Status{Service: "blog\x1b[2J", State: "down", Now: noon(), ConfigFile: "/etc/masterd/blog.yaml"}})
	sick := degradedStatus()
	sick.Service, sick.ConfigFile = "mail", "/srv/"+strings.Repeat("deep/", 20)+"mail.yaml"
	c.service("mail", &admintest.Backend{StatusIs: sick})
	// One whose master is gone is none that runs, and a directory is none.
	if err := os.Mkdir(filepath.Join(c.dir, "gone"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := listenAndDie(filepath.Join(c.dir, "gone", adminSocket)); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(c.dir, "empty"), 0o755); err != nil {
		t.Fatal(err)
	}
	want := func(mail string) string {
		return lines(
			`SERVICE      STATE     VERSION  WORKERS      SINCE  CONFIGURATION`,
			`blog\x1b[2J  down      -              -          -  /etc/masterd/blog.yaml`,
			`mail         degraded  v1.2.3    1 of 3  2h 5m ago  `+mail,
			`shop         serving   v1.2.3    2 of 2  2h 5m ago  /etc/masterd/shop.yaml`)
	}
	c.want(0, want(sick.ConfigFile), "", "list")
	c.env["NO_COLOR"], c.tty = "1", [2]int{80, 24}
	c.want(0, want("/srv/deep/deep/deep/deep/..."), "", "list")
	c.tty = [2]int{}
	code, out, errs := c.run("list", "--json")
	var got struct{ Services []listed }
	if err := json.Unmarshal([]byte(out), &got); err != nil || code != 0 || len(got.Services) != 3 {
		t.Fatalf("exit %d, %v\n%s%s", code, err, out, errs)
	}
	shop := listed{Service: "shop", State: "serving", Generation: 7, Version: "v1.2.3", Serving: 2, Workers: 2,
		Since: ago(2*time.Hour + 5*time.Minute), ConfigFile: "/etc/masterd/shop.yaml", RuntimeDir: filepath.Join(c.dir, "shop")}
	if got.Services[2] != shop {
		t.Errorf("%+v, want %+v", got.Services[2], shop)
	}
}

// A directory that anybody could have made is asked nothing.
func TestListAsksNobodyElse(t *testing.T) {
	c := newCLI(t)
	b := &admintest.Backend{StatusIs: servingStatus()}
	c.service("shop", b)
	if err := os.Chmod(filepath.Join(c.dir, "shop"), 0o777); err != nil {
		t.Fatal(err)
	}
	c.want(0, "No running service was found in $DIR.\n", "", "list")
}

// One master that hangs keeps nobody from seeing the others, and many are asked at one time.
func TestListOfMany(t *testing.T) {
	c := newCLI(t)
	dir := filepath.Join(c.dir, "hangs")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(dir, adminSocket))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() // it accepts nothing, and answers nothing
	for i := range 40 {
		c.service(fmt.Sprintf("s%02d", i), &admintest.Backend{StatusIs: servingStatus()})
	}
	code, out, _ := c.run("list")
	if code != 0 || strings.Count(out, "serving") != 40 || !strings.Contains(out, "hangs    unknown") || !strings.Contains(out, "    gave up waiting") {
		t.Errorf("exit %d\n%s", code, out)
	}
}

// An ordinary user sees what there is, and of what may not be asked the name.
func TestListOfAnotherUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to be another user")
	}
	c := newCLI(t)
	c.service("shop", &admintest.Backend{StatusIs: servingStatus()})
	if err := os.Chmod(filepath.Join(c.dir, "shop", adminSocket), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, errs := finish(t, c.outside(&syscall.Credential{Uid: 54321, Gid: 54321}, "list"))
	if code != 0 || errs != "" || !strings.Contains(out, "shop     unknown  -              -      -\n") || !strings.Contains(out, "    you may not ask it") {
		t.Errorf("exit %d; another user sees\n%s%s", code, out, errs)
	}
}
