package draft

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/masterd/masterd/pkg/master/config"
)

var rewrite = flag.Bool("update", false, "write golden files anew")

// place is a directory with programs that do nothing.
func place(t *testing.T, names ...string) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "shop")
	if err := os.MkdirAll(filepath.Join(dir, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if err := os.WriteFile(filepath.Join(dir, n), []byte("\x7fELF"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func look(t *testing.T, dir, line string) *Program {
	t.Helper()
	p, err := Look(strings.Fields(line), Surroundings{Dir: dir, Path: filepath.Join(dir, "bin")})
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return p
}

func bind(at string, a Answer) Bind { return Bind{At: netip.MustParseAddrPort(at), Answer: a} }

// What a command line runs, of which kind it is, and where it listens.
func TestLook(t *testing.T) {
	dir := place(t, "app", "bin/node", "bin/gunicorn", "bin/uvicorn", "bin/python3", "bin/nginx", "bin/php")
	for _, c := range []struct{ line, preset, kind, address, name string }{
		{"./app", "", "unmodified", "", "app"},
		{"./app --port=3000", "", "unmodified", "127.0.0.1:3000", "app"},
		{"PORT=3000 ./app", "", "unmodified", "127.0.0.1:3000", "app"},
		{"node server.js", "node", "unmodified", "", "shop"},
		{"gunicorn app:app", "gunicorn", "socket-activation", "127.0.0.1:8000", "shop"},
		{"gunicorn -b 0.0.0.0:5000 app:app", "gunicorn", "socket-activation", "0.0.0.0:5000", "shop"},
		{"python3 -m uvicorn app:app --host 0.0.0.0 --port 9000", "uvicorn", "socket-activation", "127.0.0.1:9000", "shop"},
		{"python3 app.py", "", "unmodified", "", "shop"},
		{"nginx -c site.conf", "nginx", "socket-activation", ":80", "shop"},
		{"php -S 127.0.0.1:8000", "php", "unmodified", "127.0.0.1:8000", "shop"},
		{"php queue.php", "", "unmodified", "", "shop"},
	} {
		p := look(t, dir, c.line)
		preset := ""
		if p.Preset != nil {
			preset = p.Preset.Name
		}
		if preset != c.preset || p.Kind != c.kind || p.Address != c.address || p.Name() != c.name {
			t.Errorf("%s: preset %q, kind %s, address %q, name %s", c.line, preset, p.Kind, p.Address, p.Name())
		}
	}
	// A variable of the shell's is the program's too: it would not get it otherwise.
	p, err := Look([]string{"./app"}, Surroundings{Dir: dir, Port: "3001"})
	if err != nil || p.Env["PORT"] != "3001" || p.Address != "127.0.0.1:3001" {
		t.Errorf("PORT: %+v, %v", p, err)
	}
	// This test is a Go program, and knows the control protocol by its imports.
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if p := look(t, dir, self); p.Kind != config.KindSDK {
		t.Errorf("a Go program with the control protocol in it is %s", p.Kind)
	}
}

// What a supervisor cannot follow is refused, with what to type.
func TestLookRefuses(t *testing.T) {
	dir := place(t, "app", "bin/go", "bin/docker", "bin/sudo", "bin/systemctl")
	if err := os.WriteFile(filepath.Join(dir, "app.py"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]string{
		"":                    "no program is named",
		"PORT=3000":           "no program is named",
		"app":                 "the one in this directory is ./app",
		"shop":                "shop is not in PATH",
		"./shop":              "build the program first",
		"./bin":               "is a directory",
		"./app.py":            "chmod +x it, or name its interpreter",
		"go run .":            "go build -o app . first",
		"docker run shop":     "name the program itself",
		"sudo ./app":          "worker.user",
		"systemctl start app": "another supervisor",
	} {
		_, err := Look(strings.Fields(line), Surroundings{Dir: dir, Path: filepath.Join(dir, "bin")})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, and not %q", line, err, want)
		}
	}
}

// Every preset is known here, and of its kind.
func TestPresetsAreKnown(t *testing.T) {
	i := slices.IndexFunc(config.Keys(), func(k config.Key) bool { return k.Path == "worker.preset" })
	var here []string
	for _, p := range presets {
		here = append(here, p.Name)
		if config.PresetKind(p.Name) == "" {
			t.Errorf("there is no preset %s", p.Name)
		}
	}
	if want := config.Keys()[i].Allowed[1:]; !slices.Equal(here, want) { // the first is "none"
		t.Errorf("known are %v, and there are %v", here, want)
	}
}

// The configurations that are written, as they are read: each is a good one.
func TestTexts(t *testing.T) {
	dir := place(t, "app", "bin/uvicorn", "bin/nginx")
	trial := &Trial{Binds: []Bind{
		bind("127.0.0.1:9090", Answer{Taken: true, Scheme: "http"}),
		bind("[::]:8080", Answer{Taken: true, Scheme: "http", Path: "/healthz"}),
	}, Beside: []string{"/run/app.pid"}}
	trial.Binds[1].Dual = true
	for name, c := range map[string]struct {
		line string
		make func(d *Draft)
	}{
		"program": {"GREETING=a:b ./app --mode=prod", func(d *Draft) { d.Take(trial) }},
		"guess":   {"./app", func(d *Draft) { d.At("tcp://127.0.0.1:8080", "This is a guess.") }},
		"root":    {"./app", func(d *Draft) { d.At("tcp://:80", "As you said."); d.Root = true }},
		"user":    {"./app", func(d *Draft) { d.Root, d.User = true, "www-data" }},
		"uvicorn": {"uvicorn app:app --host 0.0.0.0 --port 9000", func(d *Draft) {
			d.At("tcp://127.0.0.1:9000", "As --port says.")
			d.Runtime, d.State = "/tmp/x/run", "/tmp/x/state"
		}},
		"nginx": {"nginx", func(d *Draft) {
			d.Take(&Trial{Binds: []Bind{bind("0.0.0.0:80", Answer{Taken: true, Scheme: "https", Path: "/", Every: true})}, Beside: []string{"/run/nginx.pid"}})
		}},
	} {
		p := look(t, dir, c.line)
		d := &Draft{Program: p, Service: ServiceName(p.Name(), map[string]bool{}), File: filepath.Join(dir, "masterd.yaml"), Check: Check{Why: "It was not asked."}}
		if name == "user" {
			d.File = "/etc/masterd/app.yaml"
		}
		c.make(d)
		text := d.Text()
		if _, err := config.Parse(d.File, []byte(text), nil, config.Host{Root: true}); err != nil {
			t.Errorf("%s: %v\n%s", name, err, text)
		}
		shown := strings.ReplaceAll(text, dir, "/srv/shop")
		golden := filepath.Join("testdata", name+".yaml")
		if *rewrite {
			if err := os.WriteFile(golden, []byte(shown), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if want, err := os.ReadFile(golden); err != nil || string(want) != shown {
			t.Errorf("%s is not what is written (go test -update), %v:\n%s", golden, err, shown)
		}
		for l := range strings.Lines(text) {
			if len(l) > 110 {
				t.Errorf("%s: a long line: %s", name, l)
			}
		}
	}
}

// What a directory runs is taken only where there is no doubt.
func TestHere(t *testing.T) {
	for name, c := range map[string]struct {
		files            map[string]string
		command, missing string
	}{
		"nothing":          {nil, "", ""},
		"start":            {map[string]string{"package.json": `{"scripts":{"start":"NODE_ENV=production node server.js"}}`}, "NODE_ENV=production node server.js", ""},
		"start by a shell": {map[string]string{"package.json": `{"scripts":{"start":"node $FLAGS server.js"}}`}, "", "needs a shell"},
		"main":             {map[string]string{"package.json": `{"main":"index.js"}`}, "node index.js", ""},
		"a library":        {map[string]string{"package.json": `{"name":"x"}`}, "", "no scripts.start"},
		"no JSON":          {map[string]string{"package.json": `{`}, "", "cannot be read"},
		"web":              {map[string]string{"Procfile": "release: x\nweb: gunicorn app:app\n"}, "gunicorn app:app", ""},
		"web with a port":  {map[string]string{"Procfile": "web: gunicorn -b :$PORT app:app\n"}, "", "$PORT as a number"},
		"no web":           {map[string]string{"Procfile": "worker: x\n"}, "", "has no web"},
		"not built":        {map[string]string{"go.mod": "module shop\n"}, "", "go build -o app . first"},
	} {
		dir := t.TempDir()
		for file, text := range c.files {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		all, missing := Here(dir)
		command := ""
		if len(all) == 1 {
			command = strings.Join(all[0].Command, " ")
		}
		if command != c.command || !strings.Contains(strings.Join(missing, "\n"), c.missing) || c.missing == "" && len(missing) > 0 {
			t.Errorf("%s: %v, %v", name, all, missing)
		}
	}
}

// A program that was built from the module here is found, and no other.
func TestHereFindsWhatWasBuilt(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module github.com/masterd/masterd\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(self, filepath.Join(dir, "app")); err != nil {
		text, err := os.ReadFile(self)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, "app"), text, 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	all, missing := Here(dir)
	if len(all) != 1 || all[0].Command[0] != "./app" {
		t.Errorf("%v, %v", all, missing)
	}
}
