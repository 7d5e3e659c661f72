package config

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// Whatever a file and the environment say, Parse answers with a configuration
// or with problems. What it accepted can be shown, and what was shown read.
func FuzzParse(f *testing.F) {
	for _, pattern := range []string{"testdata/bad/*.yaml", "../../../configs/*.yaml", "../../../configs/examples/*.yaml"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data, "5m")
		}
	}
	f.Add([]byte(rich), "")
	f.Fuzz(func(t *testing.T, data []byte, value string) {
		env := []string{"MASTERD_ROLLOUT_BAKE=" + value, "MASTERD_HEALTH_HTTP_PATH=" + value, "MASTERD_LOG_PER_WORKER=" + value}
		for _, env := range [][]string{nil, env} {
			c, err := Parse("/etc/masterd/masterd.yaml", data, env, fakeHost())
			if err != nil {
				var p *Problems
				if !errors.As(err, &p) || len(p.List) == 0 || c != nil || err.Error() == "" {
					t.Fatalf("%T %v", err, err)
				}
				for _, one := range strings.Split(err.Error(), "\n") {
					if len(one) > 3*maxOneLine {
						t.Fatalf("a problem of %d bytes", len(one))
					}
				}
				continue
			}
			shown := Effective(c)
			d, err := Parse("/etc/masterd/masterd.yaml", []byte(shown), nil, fakeHost())
			if err != nil {
				t.Fatalf("cannot be read back: %v\n%s", err, shown)
			}
			unhide(c, d)
			if !reflect.DeepEqual(c, d) {
				t.Fatalf("not the same after\n%s\n%+v\n%+v", shown, c, d)
			}
			if changes := Diff(c, d); len(changes) > 0 {
				t.Fatal(changes)
			}
		}
	})
}

func FuzzEnvFile(f *testing.F) {
	f.Add([]byte("A=1\nexport B=\"x\\n\"\nC='y' # z\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		vars, err := parseEnvFile(data)
		if err == nil {
			for _, v := range vars {
				if name, _, ok := strings.Cut(v, "="); !ok || name == "" || strings.ContainsRune(v, 0) {
					t.Fatalf("%q", v)
				}
			}
		}
	})
}
