package config

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestFullConfigIsMadeFromTheKeys(t *testing.T) {
	golden(t, "../../../configs/full.yaml", full())
	c, err := Parse("/etc/masterd/full.yaml", full(), nil, fakeHost())
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range Keys() {
		if !bytes.Contains(full(), []byte(k.Name()+":")) {
			t.Errorf("%s is not in it", k.Path)
		}
	}
	// It shows the defaults: without its values, but the required ones, all is the same.
	least := "service: shop\nlisteners: [{name: http, address: tcp://127.0.0.1:8080}]\nworker: {command: [bin/shop, --mode=prod]}\n"
	d, err := Parse("/etc/masterd/full.yaml", []byte(least), nil, fakeHost())
	if err != nil {
		t.Fatal(err)
	}
	for _, change := range Diff(d, c) {
		t.Errorf("full.yaml is not the default: %s", change)
	}
}

func TestManualPageIsMadeFromTheKeys(t *testing.T) {
	page := man()
	golden(t, "../../../docs/man/masterd.yaml.5", page)
	for _, k := range Keys() {
		if !bytes.Contains(page, []byte(`\fB`+roff(k.Path)+`\fR`)) {
			t.Errorf("%s is not in the manual page", k.Path)
		}
	}
	for i, line := range strings.Split(string(page), "\n") {
		if strings.HasPrefix(line, "'") {
			t.Errorf("line %d is a request by accident: %s", i+1, line)
		}
	}
	groff, err := exec.LookPath("groff")
	if err != nil {
		t.Skip("no groff to look for mistakes with")
	}
	cmd := exec.Command(groff, "-man", "-Tutf8", "-ww", "-z")
	cmd.Stdin = bytes.NewReader(page)
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("groff: %v\n%s", err, out)
	}
}

// What is shipped as an example must be accepted as it is.
func TestShippedConfigs(t *testing.T) {
	var files []string
	for _, pattern := range []string{"../../../configs/*.yaml", "../../../configs/examples/*.yaml"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	if len(files) < 8 {
		t.Fatalf("only %d files: %v", len(files), files)
	}
	for _, file := range files {
		data, err := readFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if c, err := Parse("/etc/masterd/"+filepath.Base(file), data, nil, fakeHost()); err != nil {
			t.Error(err)
		} else if c.Service == "" || len(c.Worker.Command) == 0 {
			t.Errorf("%s: %+v", file, c)
		}
	}
}
