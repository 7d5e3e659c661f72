package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/admin/admintest"
	"github.com/masterd/masterd/pkg/master/state"
)

// named is a master that says which service it is.
func named(name, file string) *admintest.Backend {
	return &admintest.Backend{StatusIs: api.Status{Service: name, State: "serving", Now: noon(), ConfigFile: file}}
}

// talksTo runs status and tells which service answered.
func (c *cli) talksTo(args ...string) string {
	c.t.Helper()
	_, out, errs := c.run(append([]string{"status"}, args...)...)
	name, _, _ := strings.Cut(out, " ")
	return name + errs
}

// file writes a configuration of the named service.
func (c *cli) file(path, service string) string {
	c.t.Helper()
	text := fmt.Sprintf("service: %s\nruntime_dir: %s\nlisteners: [{name: http, address: \"tcp://127.0.0.1:%d\"}]\nworker: {command: [/bin/true]}\n",
		service, filepath.Join(c.dir, service), freePort(c.t))
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		c.t.Fatal(err)
	}
	return path
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func TestTheOnlyOneIsMeant(t *testing.T) {
	c := newCLI(t)
	c.service("shop", named("shop", ""))
	if err := os.MkdirAll(filepath.Join(c.dir, "stopped"), 0o755); err != nil {
		t.Fatal(err)
	}
	if got := c.talksTo(); got != "shop" {
		t.Errorf("talked to %s", got)
	}
}

func TestSeveralAreNamed(t *testing.T) {
	c := newCLI(t)
	c.service("shop", named("shop", ""))
	c.service("blog", named("blog", ""))
	c.want(2, "", "masterd: several services run here; say which with --service NAME:\n"+
		"  blog                 $DIR/blog\n  shop                 $DIR/shop\n", "reload")
	if got := c.talksTo("--service", "blog"); got != "blog" {
		t.Errorf("with --service talked to %s", got)
	}
	c.want(3, "", "masterd: no master of mail is running; looked in $DIR\n", "reload", "--service", "mail")
	c.want(2, "", "masterd: --service wants a service's name, not the path \"../shop\"\n", "reload", "--service", "../shop")
	if got := c.talksTo(); !strings.HasPrefix(got, "masterd: several") {
		t.Errorf("status talked to %s", got)
	}
}

func TestTheFileDecides(t *testing.T) {
	c := newCLI(t)
	shop, blog := c.file(filepath.Join(c.dir, "shop.yaml"), "shop"), c.file(filepath.Join(c.dir, "blog.yaml"), "blog")
	c.service("shop", named("shop", shop))
	c.service("blog", named("blog", blog))
	if got := c.talksTo("--config", blog); got != "blog" {
		t.Errorf("with --config talked to %s", got)
	}
	c.env["MASTERD_CONFIG"] = shop
	if got := c.talksTo(); got != "shop" {
		t.Errorf("with MASTERD_CONFIG talked to %s", got)
	}
	if got := c.talksTo("--config", blog); got != "blog" {
		t.Errorf("with both talked to %s", got)
	}
	mail := c.file(filepath.Join(c.dir, "mail.yaml"), "mail")
	c.want(3, "", "masterd: no master of mail is running: nobody listens on $DIR/mail/admin.sock\n", "reload", "--config", mail)
}

func TestBrokenFileKeepsNobodyOut(t *testing.T) {
	c := newCLI(t)
	path := filepath.Join(c.dir, "shop.yaml")
	if err := os.WriteFile(path, []byte("servce: shop\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(c.dir, "link.yaml")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	c.service("shop", named("shop", path))
	c.service("blog", named("blog", "/elsewhere.yaml"))
	for _, p := range []string{path, link} {
		if got := c.talksTo("--config", p); got != "shop" {
			t.Errorf("with %s talked to %s", p, got)
		}
	}
	// Nobody runs with that one: then what is wrong with it is told.
	other := filepath.Join(c.dir, "other.yaml")
	if err := os.WriteFile(other, []byte("servce: mail\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	code, _, errs := c.run("reload", "--config", other)
	if code != 2 || !strings.Contains(errs, "servce") {
		t.Errorf("exit %d: %s", code, errs)
	}
	if code, _, errs = c.run("reload", "--config", "/nonexistent.yaml"); code != 2 || !strings.Contains(errs, "/nonexistent.yaml") {
		t.Errorf("exit %d: %s", code, errs)
	}
}

func TestDefaultFile(t *testing.T) {
	c := newCLI(t)
	def := c.file(filepath.Join(c.dir, "masterd.yaml"), "shop")
	c.service("blog", named("blog", "/elsewhere.yaml"))
	// Root's own service is down: another one is not taken for it.
	c.want(3, "", "masterd: no master of shop is running: nobody listens on $DIR/shop/admin.sock\n", "stop")
	if err := os.Rename(def, def+".good"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(def, []byte("servce: shop\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := c.run("stop"); code != 2 || !strings.Contains(errs, "servce") {
		t.Errorf("with a broken default file: exit %d: %s", code, errs)
	}
	if err := os.Rename(def+".good", def); err != nil {
		t.Fatal(err)
	}
	// To others the host's service may mean nothing.
	c.uid = 54321
	if got := c.talksTo(); got != "blog" {
		t.Errorf("an ordinary user talked to %s", got)
	}
	c.service("shop", named("shop", def))
	for _, c.uid = range []int{0, 54321} {
		if got := c.talksTo(); got != "shop" {
			t.Errorf("uid %d talked to %s", c.uid, got)
		}
	}
}

func TestUsersOwnServices(t *testing.T) {
	c := newCLI(t)
	c.uid = os.Getuid()
	if c.uid == 0 {
		t.Skip("root's services are elsewhere")
	}
	c.env["XDG_RUNTIME_DIR"] = filepath.Join(c.dir, "xdg")
	base := fmt.Sprintf("xdg/masterd-%d", c.uid)
	c.service(base+"/shop", named("shop", ""))
	if got := c.talksTo(); got != "shop" {
		t.Errorf("talked to %s", got)
	}
}

func TestTrapInTheTemporaryDirectory(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to make another user's directory")
	}
	c := newCLI(t)
	c.uid = 54321
	base := filepath.Join(c.dir, "masterd-54321")
	c.service("masterd-54321/trap", named("trap", ""))
	for what, change := range map[string]func() error{
		"made by another user":     func() error { return os.Chown(base, 54322, 54322) },
		"writable for all":         func() error { return os.Chmod(base, 0o777) },
		"its own, but for a while": func() error { return os.Chmod(base, 0o775) },
	} {
		if err := os.Chown(base, 54321, 54321); err != nil {
			t.Fatal(err)
		}
		if err := change(); err != nil {
			t.Fatal(err)
		}
		if got := c.talksTo(); !strings.HasPrefix(got, "masterd: no running service was found") {
			t.Errorf("in a directory %s talked to %s", what, got)
		}
		if err := os.Chmod(base, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(base, 54321, 54321); err != nil {
		t.Fatal(err)
	}
	if got := c.talksTo(); got != "trap" {
		t.Errorf("in a directory of the user's own talked to %s", got)
	}
}

// A stranger was first to make what would be the directory of this user's
// services, and listens there: nobody is asked anything, with a configuration too.
func TestStrangersAreNotBelieved(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to make another user's directory")
	}
	c := newCLI(t)
	if err := os.Chmod(c.dir, 0o777|os.ModeSticky); err != nil { // as /tmp is
		t.Fatal(err)
	}
	const user, other = 54321, 54322
	c.uid = user
	run := filepath.Join(c.dir, "masterd-54321", "shop")
	file := c.file(filepath.Join(c.dir, "shop.yaml"), "masterd-54321/shop")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(strings.Replace(string(text), "service: masterd-54321/shop", "service: shop", 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(file, user, user); err != nil {
		t.Fatal(err)
	}
	asked := &admintest.Backend{StatusIs: api.Status{Service: "trap", State: "serving", Now: noon(), ConfigFile: file}}
	c.service("masterd-54321/shop", asked)
	belongs := func(base, dir int, mode os.FileMode) {
		t.Helper()
		for path, uid := range map[string]int{filepath.Dir(run): base, run: dir} {
			if err := errors.Join(os.Chown(path, uid, uid), os.Chmod(path, mode)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for what, change := range map[string]func(){
		"both a stranger's":     func() { belongs(other, other, 0o755) },
		"the base a stranger's": func() { belongs(other, user, 0o755) },
		"open to all":           func() { belongs(user, user, 0o777) },
	} {
		change()
		for _, args := range [][]string{{"status", "--config", file}, {"stop", "--config", file}, {"reload", "--config", file}} {
			code, out, errs := c.run(args...)
			if code == 0 || strings.Contains(out, "trap") || !strings.Contains(errs, "masterd-54321") {
				t.Errorf("%s: %v: exit %d\n%s%s", what, args, code, out, errs)
			}
		}
	}
	belongs(user, user, 0o755)
	if got := c.talksTo("--config", file); got != "trap" { // root listens
		t.Errorf("in a directory of the user's own talked to %s", got)
	}
	// Root is told the same, and believes whom the configuration belongs to.
	c.uid = 0
	belongs(other, other, 0o755)
	if code, out, errs := c.run("stop", "--config", file); code == 0 || strings.Contains(out, "trap") {
		t.Errorf("root: exit %d\n%s%s", code, out, errs)
	}
	belongs(user, user, 0o755)
	if got := c.talksTo("--config", file); got != "trap" {
		t.Errorf("root talked to %s", got)
	}
}

// Services in directories of their own are found by the index.
func TestIndexIsLookedIn(t *testing.T) {
	c := newCLI(t)
	file := filepath.Join(c.dir, "far.yaml")
	c.service("far/away/run", named("far", file))
	e := state.Entry{Service: "far", Config: file, RuntimeDir: filepath.Join(c.dir, "far", "away", "run")}
	if err := state.Enter(c.dir, e); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{}, {"--service", "far"}, {"--config", file}} {
		if got := c.talksTo(args...); got != "far" {
			t.Errorf("with %v talked to %s", args, got)
		}
	}
	// Another one of that name: the file tells them apart.
	c.service("near", named("far", ""))
	other := state.Entry{Service: "far", Config: "/other.yaml", RuntimeDir: filepath.Join(c.dir, "near")}
	if err := state.Enter(c.dir, other); err != nil {
		t.Fatal(err)
	}
	if got := c.talksTo("--config", file); got != "far" {
		t.Errorf("talked to %s", got)
	}
	// An entry that lies is found out: the master says which file is its.
	lie := state.Entry{Service: "lie", Config: "/lie.yaml", RuntimeDir: filepath.Join(c.dir, "near")}
	if err := state.Enter(c.dir, lie); err != nil {
		t.Fatal(err)
	}
	if code, out, _ := c.run("status", "--config", "/lie.yaml"); code == 0 {
		t.Errorf("talked to %s", out)
	}
}
