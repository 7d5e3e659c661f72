package systemd

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// systemd finds nothing to say against the units.
func TestUnitsAreClean(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		cannot(t, err.Error())
	}
	b := boot(t)
	b.installMasterd()
	man := "--man=no"
	if _, err := exec.LookPath("man"); err == nil {
		man = "--man=yes"
	}
	b.write("/etc/systemd/system/masterd@shop.socket.d/listen.conf", "[Socket]\nListenStream=127.0.0.1:8080\n")
	for _, unit := range []string{"masterd.service", "masterd@shop.service", "masterd@shop.socket", "masterd-sweep@masterd@shop.service.service"} {
		if out, code := b.run("systemd-analyze", "verify", man, unit); code != 0 || out != "" {
			t.Errorf("systemd-analyze verify %s: exit code %d\n%s", unit, code, out)
		}
	}
}

// A directive whose reason nobody knows is never dared to be changed.
func TestEachDirectiveSaysWhy(t *testing.T) {
	t.Parallel()
	plain := map[string]bool{"Description": true, "Documentation": true, "ExecStart": true, "WantedBy": true}
	files, err := filepath.Glob("../../deploy/systemd/*")
	if err != nil || len(files) != 5 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		above := ""
		for line := range strings.Lines(string(text)) {
			key, _, directive := strings.Cut(line, "=")
			commented := strings.HasPrefix(above, "#") || key == "Wants" && strings.HasPrefix(above, "After=") // a pair
			if directive && !strings.HasPrefix(line, "#") && !plain[key] && !commented {
				t.Errorf("%s: %s has no comment", filepath.Base(path), key)
			}
			above = line
		}
	}
}

// The two units are one but for the instance's name.
func TestUnitsAreAlike(t *testing.T) {
	t.Parallel()
	one, err := os.ReadFile("../../deploy/systemd/masterd.service")
	if err != nil {
		t.Fatal(err)
	}
	many, err := os.ReadFile("../../deploy/systemd/masterd@.service")
	if err != nil {
		t.Fatal(err)
	}
	same := strings.NewReplacer(" --config /etc/masterd/%i.yaml", "", "masterd/%i", "masterd", " for %i:", ":")
	if directives(same.Replace(string(many))) != directives(string(one)) {
		t.Errorf("masterd@.service is not masterd.service with a name:\n%s\n%s", many, one)
	}
}

// directives leaves comments out, and what the two units differ in on purpose.
func directives(unit string) string {
	var b strings.Builder
	for line := range strings.Lines(unit) {
		if !strings.HasPrefix(line, "#") && !strings.HasPrefix(line, "RuntimeDirectoryPreserve=") {
			b.WriteString(line)
		}
	}
	return b.String()
}
