package systemd

import (
	"flag"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/masterd/masterd/test/service"
)

// which says what of test/programs runs in the units; the gate for all of it is long.
var which = flag.String("systemd.programs", "TestPresetsAsAnotherUser|TestPresetsAsRoot", "the tests of test/programs that run within the units")

// full has them run within the shipped unit, too: the strict set has all that it has, and more.
var full = flag.Bool("systemd.full", false, "run the programs within both units")

// more has what a directive costs measured: -systemd.directive MemoryDenyWriteExecute=yes.
var more = flag.String("systemd.directive", "", "a directive that both units have besides in TestProgramsWithinTheUnits")

// programsTimeout bounds them.
const programsTimeout = 10 * time.Minute

// What the units take from the master they take from workers: servers as they are
// packaged live with the shipped one, and with the strict set, as root and as another
// user. The tests of test/programs run within the units, with masters of their own.
func TestProgramsWithinTheUnits(t *testing.T) { // not beside others: it loads the machine
	if missing() == "" && testing.Short() {
		t.Skip("takes a minute")
	}
	read := func(t *testing.T, path string) string {
		t.Helper()
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	shipped := read(t, "../../deploy/systemd/masterd.service")
	strict := read(t, "../../deploy/systemd/strict.conf")
	units := map[string]string{"strict": shipped + "\n[Service]\n" + strict}
	if *full {
		units["shipped"] = shipped
	}
	for name, unit := range units {
		t.Run(name, func(t *testing.T) {
			b := boot(t)
			const src = "/usr/local/src/masterd"
			b.tree("../../configs/examples", src+"/configs/examples")
			b.tree("../programs/testdata", src+"/test/programs/testdata")
			// Where distributions have settings that programs do not start without.
			for _, dir := range []string{"/etc/alternatives", "/etc/java-17-openjdk", "/etc/nginx", "/etc/ssl/openssl.cnf", "/etc/mime.types"} {
				if _, err := os.Stat(dir); err == nil {
					b.tree(dir, dir)
				}
			}
			for _, dir := range []string{"/var/lib/nginx", "/var/log/nginx"} {
				if err := os.MkdirAll(b.path(dir), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			build := exec.Command("go", "test", "-buildvcs=false", "-c", "-o", b.path(src)+"/programs.test", "../programs")
			if out, err := build.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			p := programs(t)
			for _, path := range []string{p.Masterd, p.Demo, p.Chat, p.Plain, p.Answers, p.Gin, p.Hostile, p.Locks} {
				b.tree(path, src+"/"+filepath.Base(path))
			}
			b.write("/etc/systemd/system/programs.service", within(unit)+*more+"\n"+
				"WorkingDirectory="+src+"/test/programs\nEnvironment="+service.ProgramsEnv+"="+src+"\nStandardOutput=file:/run/programs.log\nStandardError=file:/run/programs.log\n"+
				"ExecStart="+src+"/programs.test -test.v -test.run '^("+*which+")$$$' -programs.reloads 1\n")
			b.must("systemctl", "daemon-reload")
			b.must("systemctl", "start", "--no-block", "programs")
			state := func() string { // "" until it was begun with: it is dead before, too
				if _, err := os.Stat(b.path("/run/programs.log")); err != nil {
					return ""
				}
				out, _ := b.run("systemctl", "show", "programs", "-P", "SubState")
				return strings.TrimSpace(out)
			}
			for late := time.After(programsTimeout); ; {
				if s := state(); s == "dead" || s == "failed" {
					break
				}
				select {
				case <-late:
					t.Fatalf("not done within %s", programsTimeout)
				case <-time.After(100 * poll):
				}
			}
			said := read(t, b.path("/run/programs.log"))
			if out, _ := b.run("systemctl", "show", "programs", "-P", "Result"); strings.TrimSpace(out) != "success" || !strings.Contains(said, "--- PASS") {
				t.Errorf("%s\n%s", out, said)
			}
			for line := range strings.Lines(said) {
				if strings.Contains(line, "--- ") {
					t.Log(strings.TrimRight(line, "\n"))
				}
			}
		})
	}
}

// within is a unit that runs something else, with all that the service's has for
// whatever runs in it.
func within(service string) string {
	b := strings.Builder{}
	b.WriteString("[Service]\nType=oneshot\n")
	for line := range strings.Lines(service[strings.Index(service, "[Service]"):]) {
		key, _, directive := strings.Cut(line, "=")
		switch {
		case !directive || strings.HasPrefix(line, "#"), strings.HasPrefix(key, "Exec"), strings.HasPrefix(key, "Restart"), strings.HasPrefix(key, "Timeout"):
		case key == "Type", key == "NotifyAccess", key == "WatchdogSec", key == "KillMode", key == "WantedBy":
		default:
			b.WriteString(line)
		}
	}
	return b.String()
}

// tree copies a directory of the host's into the box.
func (b *box) tree(from, to string) {
	b.t.Helper()
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		rel, err2 := filepath.Rel(from, path)
		if err != nil || err2 != nil {
			return err
		}
		at := filepath.Join(b.path(to), rel)
		switch {
		case d.IsDir():
			return os.MkdirAll(at, 0o755)
		case d.Type() == fs.ModeSymlink:
			name, err := os.Readlink(path)
			if err != nil {
				return err
			}
			return os.Symlink(name, at)
		default:
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
				return err
			}
			return os.WriteFile(at, text, 0o755)
		}
	})
	if err != nil {
		b.t.Fatal(err)
	}
}
