package systemd

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// packages are made once, by the first test that has a box to put them into.
var packages struct {
	once sync.Once
	err  error
}

// debs makes two packages, of versions 1.0 and 2.0.
func debs(t *testing.T) (one, two string) {
	t.Helper()
	for _, tool := range []string{"make", "dpkg-deb", "dpkg"} {
		if _, err := exec.LookPath(tool); err != nil {
			cannot(t, err.Error())
		}
	}
	dir := filepath.Join(built.dir, "packages")
	packages.once.Do(func() { packages.err = makeDebs(dir) })
	if packages.err != nil {
		t.Fatal(packages.err)
	}
	var made []string
	for _, version := range []string{"1.0", "2.0"} {
		list, err := filepath.Glob(filepath.Join(dir, "masterd_"+version+"_*.deb"))
		if err != nil || len(list) != 1 {
			t.Fatal(list, err)
		}
		made = append(made, list[0])
	}
	return made[0], made[1]
}

// makeDebs makes the first as `make deb` does, and the second of what that has laid out,
// with a masterd of its version: the rest is the same, and takes most of the time.
func makeDebs(dir string) error {
	run := func(args ...string) error {
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Dir, cmd.Env = "../..", append(os.Environ(), "DEBCOMPRESSION=none", "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%q: %w\n%s", args, err, out)
		}
		return nil
	}
	bin := filepath.Join(dir, "bin")
	if err := run("make", "deb", "VERSION=1.0", "BIN="+bin, "DEBOUT="+dir); err != nil {
		return err
	}
	first, err := filepath.Glob(filepath.Join(dir, "masterd_1.0_*.deb"))
	if err != nil || len(first) != 1 {
		return fmt.Errorf("make deb has made %q, %v", first, err)
	}
	_, arch, _ := strings.Cut(strings.TrimSuffix(filepath.Base(first[0]), ".deb"), "_1.0_")
	stage := filepath.Join(bin, "deb/stage")
	if err := run("go", "build", "-trimpath", "-ldflags", "-s -w -X main.version=2.0", "-o", filepath.Join(stage, "usr/bin/masterd"), "./cmd/masterd"); err != nil {
		return err
	}
	return run("scripts/deb.sh", stage, "2.0", arch, dir)
}

// writable lets the box have a /usr of its own, over the host's, and a package
// database that knows of nothing.
func (b *box) writable() {
	b.t.Helper()
	b.must("/bin/sh", "-c", `set -e
mount -t tmpfs -o mode=755 tmpfs /mnt
mkdir /mnt/upper /mnt/work
mount -t overlay -o lowerdir=/usr,upperdir=/mnt/upper,workdir=/mnt/work overlay /usr
mount -t tmpfs -o mode=755 tmpfs /usr/local
mkdir /usr/local/bin
mkdir -p /var/lib/dpkg/info /var/lib/dpkg/updates /etc/dpkg /var/log
touch /var/lib/dpkg/status /var/lib/dpkg/available
# Of the host's units the box knows none, but those of the package.
for u in masterd.service masterd@.service masterd@.socket masterd-sweep@.service; do ln -s /usr/lib/systemd/system/$u /etc/systemd/system/$u; done
`)
}

// The package is installed, upgraded under load, removed and purged.
func TestPackage(t *testing.T) {
	t.Parallel()
	b := boot(t)
	one, two := debs(t)
	if out, code := b.run("/bin/sh", "-c", "modprobe -n overlay 2>/dev/null; grep -w overlay /proc/filesystems"); code != 0 {
		cannot(t, "there is no overlay file system here: "+out)
	}
	b.writable()
	deb := func(path string) string {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		b.write("/run/masterd.deb", string(text))
		return b.must("dpkg", "--install", "/run/masterd.deb")
	}
	deb(one)
	if out := b.must("masterd", "version"); !strings.Contains(out, "1.0") {
		t.Errorf("masterd version: %s", out)
	}
	if out := b.must("systemctl", "list-units", "--plain", "--no-legend", "masterd*"); out != "" {
		t.Errorf("it has started: %s", out)
	}
	if man := b.must("/bin/sh", "-c", "ls /usr/share/man/man8/masterd.8.gz /usr/share/doc/masterd/examples/full.yaml /etc/needrestart/conf.d/masterd.conf"); man == "" {
		t.Error(man)
	}

	b.install("demo-v1", "demo")
	x := b.unit("masterd", "/etc/masterd/masterd.yaml", "demo", 8080)
	y := b.unit("masterd@shop", "/etc/masterd/shop.yaml", "shop", 8081)
	x.start()
	y.start()
	x.baked()
	y.baked()
	type seen struct {
		pid     int
		workers string
	}
	look := func(u *unit) seen {
		m, workers := u.master()
		return seen{m.pid, fmt.Sprint(workers)}
	}
	beforeX, beforeY := look(x), look(y)
	y.must("masterd", "hold", "--service", "shop", "a hold does not keep anybody from upgrading")
	x.underLoad(func() {
		said := deb(two)
		for _, u := range []string{"masterd.service", "masterd@shop.service"} {
			if !strings.Contains(said, u+" runs the new masterd") {
				t.Errorf("dpkg --install does not say that %s was upgraded:\n%s", u, said)
			}
		}
	})
	if out := b.must("masterd", "version"); !strings.Contains(out, "2.0") {
		t.Errorf("masterd version: %s", out)
	}
	if after := look(x); after != beforeX {
		t.Errorf("masterd.service was %+v and is %+v", beforeX, after)
	}
	if after := look(y); after != beforeY {
		t.Errorf("masterd@shop.service was %+v and is %+v", beforeY, after)
	}
	for _, u := range []*unit{x, y} {
		u.serves("v1")
		u.wants("ActiveState=active", "NRestarts=0")
		m, _ := u.master()
		if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", m.pid)); err != nil || strings.HasSuffix(exe, "(deleted)") {
			t.Errorf("the master of %s runs %s, %v", u.name, exe, err)
		}
		if st, err := u.status(); err != nil || !strings.Contains(st.Master.Version, "2.0") {
			t.Errorf("%s is run by masterd %q, %v", u.name, st.Master.Version, err)
		}
	}

	b.must("dpkg", "--remove", "masterd")
	for _, u := range []*unit{x, y} {
		u.nobody()
	}
	if _, err := os.Stat(b.path("/var/lib/masterd/shop")); err != nil {
		t.Errorf("removal has taken the state: %v", err)
	}
	b.must("dpkg", "--purge", "masterd")
	for _, path := range []string{"/var/lib/masterd", "/usr/bin/masterd", "/etc/needrestart/conf.d/masterd.conf"} {
		if _, err := os.Stat(b.path(path)); !os.IsNotExist(err) {
			t.Errorf("left after the purge: %s, %v", path, err)
		}
	}
	if _, err := os.Stat(b.path("/etc/masterd/shop.yaml")); err != nil {
		t.Errorf("the purge has taken what was written by a person: %v", err)
	}
	if out := b.must("dpkg", "--audit"); out != "" {
		t.Errorf("dpkg --audit: %s", out)
	}
}

// A package of which nothing runs, and one in a place without systemd, are
// installed and removed as quietly.
func TestPackageWithoutServices(t *testing.T) {
	t.Parallel()
	b := boot(t)
	one, two := debs(t)
	b.writable()
	b.write("/etc/masterd/mine.yaml", "") // without it dpkg would try to remove /etc, which is on a read-only root here
	for _, path := range []string{one, two} {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		b.write("/run/masterd.deb", string(text))
		b.must("dpkg", "--install", "/run/masterd.deb")
		b.must("/bin/sh", "-c", "unshare --mount sh -c 'mount -t tmpfs tmpfs /run/systemd && sh -e /var/lib/dpkg/info/masterd.postinst configure 1.0 && sh -e /var/lib/dpkg/info/masterd.prerm remove'")
	}
	b.must("dpkg", "--purge", "masterd")
}
