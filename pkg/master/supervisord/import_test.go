package supervisord

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/draft"
)

var rewrite = flag.Bool("update", false, "write testdata/*.golden anew")

// told writes a result as the golden files have it. dir is where the test runs.
func told(r *Result, dir string) string {
	var b strings.Builder
	note := func(n Note) {
		mark := " "
		if n.Open {
			mark = "!"
		}
		fmt.Fprintf(&b, "%s %s: %s\n", mark, n.Key, n.Text)
	}
	for _, n := range r.Notes {
		note(n)
	}
	for _, p := range r.Programs {
		fmt.Fprintf(&b, "\n=== %s\n", p.Name)
		for _, n := range p.Notes {
			note(n)
		}
		if p.Text != "" {
			fmt.Fprintf(&b, "--- %s.yaml\n%s", p.Service, p.Text)
		}
	}
	return strings.ReplaceAll(b.String(), dir, "$DIR")
}

func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.conf")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	dir, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		r, err := Import(file, []string{"WEB_SECRET=a'b\"c"}, config.Host{Root: true})
		got := ""
		if err != nil {
			got = strings.ReplaceAll(err.Error(), dir, "$DIR") + "\n"
		} else {
			got = told(r, dir)
		}
		golden := strings.TrimSuffix(file, ".conf") + ".golden"
		if *rewrite {
			if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, _ := os.ReadFile(golden)
		if got != string(want) {
			t.Errorf("%s: got\n%s--- want\n%s", file, got, want)
		}
	}
}

func TestSplit(t *testing.T) {
	for command, want := range map[string][]string{
		`a b  c`:              {"a", "b", "c"},
		`a "b c" 'd e'f`:      {"a", "b c", "d ef"},
		`a "x\"y" '\n' b\ c`:  {"a", `x"y`, `\n`, "b c"},
		`a "" ''`:             {"a", "", ""},
		`a "\n" \\`:           {"a", `\n`, `\`},
		"a\n\tb":              {"a", "b"},
		`/bin/x $HOME > "&&"`: {"/bin/x", "$HOME", ">", "&&"},
	} {
		got, err := split(command)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %q, %v", command, got, err)
		}
	}
	for _, command := range []string{``, `  `, `a "b`, `a 'b`, `a \`} {
		if got, err := split(command); err == nil {
			t.Errorf("%s: %q", command, got)
		}
	}
}

func TestVariables(t *testing.T) {
	for text, want := range map[string]string{
		`A=1,B="2,3", C='4' `: "A=1|B=2,3|C=4",
		``:                    "",
		`A=`:                  "A=",
		"A=1,\nB=2":           "A=1|B=2",
		`A=x y,`:              "A=x y",
		`A="a=b"`:             "A=a=b",
		`A="C:\"`:             `A=C:\`,
		`A="x\\y"`:            `A=x\\y`,
	} {
		list, wrong := variables(text)
		var got []string
		for _, v := range list {
			got = append(got, v.name+"="+v.value)
		}
		if wrong != nil || strings.Join(got, "|") != want {
			t.Errorf("%s: %q, %v", text, got, wrong)
		}
	}
	for _, text := range []string{`A`, `A="x`, `A="x"y`, `=1`, `A=1,B`} {
		if got, wrong := variables(text); wrong == nil || len(got) > 1 {
			t.Errorf("%s: %v, %v", text, got, wrong)
		}
	}
	// What comes before is kept. A \" is no escape to supervisord.
	for text, want := range map[string]string{
		`A=1,B="x"y,C=3`:        "A=1",
		`A="x,B=2`:              "",
		`A=1,B,C="3, 4",D`:      "A=1",
		`A=1,J="{\"a\":1}",B=2`: "A=1",
	} {
		list, wrong := variables(text)
		var got []string
		for _, v := range list {
			got = append(got, v.name+"="+v.value)
		}
		if wrong == nil || strings.Join(got, "|") != want {
			t.Errorf("%s: %q, %v", text, got, wrong)
		}
	}
}

func TestExpand(t *testing.T) {
	e := expansions{"n": "7", "s": "x"}
	for text, want := range map[string]string{
		"%(s)s%(n)d": "x7", "%(n)02d": "07", "%(n)3d": "  7", "100%%": "100%", "%%(s)s": "%(s)s", "plain": "plain",
	} {
		if got, err := e.expand(text); got != want || err != nil {
			t.Errorf("%s: %q, %v", text, got, err)
		}
	}
	for _, text := range []string{"50%", "%(t)s", "%(s)d", "%(ENV_X)s", "%(s)"} {
		if got, err := e.expand(text); err == nil {
			t.Errorf("%s: %q", text, got)
		}
	}
}

// Every server that masterd has a preset for is recognised as it is run, and what
// is written for it is good.
func TestPresetsAreRecognised(t *testing.T) {
	commands := map[string][]string{
		"gunicorn": {"/srv/venv/bin/gunicorn --bind 0.0.0.0:8000 app:app", "/usr/bin/python3 -m gunicorn -b :8000 app:app", "/srv/venv/bin/python /srv/venv/bin/gunicorn app:app"},
		"uvicorn":  {"/srv/venv/bin/uvicorn app:app --port 8000", "/usr/bin/python3.12 -m uvicorn app:app"},
		"node":     {"/usr/bin/node server.js", "/usr/bin/nodejs server.js"},
		"nginx":    {`/usr/sbin/nginx -g "daemon off;"`},
		"caddy":    {"/usr/bin/caddy run --config /etc/Caddyfile"},
		"puma":     {"/usr/bin/puma -p 3000", "/usr/bin/bundle exec puma -b tcp://127.0.0.1:3000"},
		"haproxy":  {"/usr/sbin/haproxy -db -f /etc/haproxy.cfg"},
		"php-fpm":  {"/usr/sbin/php-fpm8.2 --nodaemonize", "/usr/local/sbin/php-fpm -F"},
		"apache":   {"/usr/sbin/apache2 -D FOREGROUND", "/usr/sbin/httpd -DFOREGROUND"},
		"lighttpd": {"/usr/sbin/lighttpd -D -f /etc/lighttpd/lighttpd.conf"},
		"tomcat":   {"/usr/share/tomcat10/bin/catalina.sh run", "/opt/tomcat/bin/catalina.sh run", "/usr/libexec/tomcat10/tomcat-start.sh"},
		"redis":    {"/usr/bin/redis-server /etc/redis/redis.conf --daemonize no"},
		"php":      {"/usr/bin/php -S 127.0.0.1:8000 router.php", "/usr/bin/php8.2 -S 0.0.0.0:8000"},
	}
	i := slices.IndexFunc(config.Keys(), func(k config.Key) bool { return k.Path == "worker.preset" })
	for _, preset := range config.Keys()[i].Allowed {
		if preset == "none" {
			continue
		}
		if len(commands[preset]) == 0 {
			t.Errorf("nobody knows how %s is run", preset)
		}
		for _, command := range commands[preset] {
			p := one(t, "command="+command+"\nstopsignal=QUIT\n")
			c, err := config.Parse("/x/y.yaml", []byte(p.Text), nil, config.Host{Root: true})
			if err != nil || c.Worker.Preset != preset {
				t.Errorf("%s: %v\n%s", command, err, p.Text)
			}
		}
	}
}

// What the interpreter of PHP runs otherwise is no server.
func TestScriptsOfPHPHaveNoPreset(t *testing.T) {
	p := one(t, "command=/usr/bin/php artisan queue:work\n")
	c, err := config.Parse("/x/y.yaml", []byte(p.Text), nil, config.Host{Root: true})
	if err != nil || c.Worker.Preset != "none" {
		t.Errorf("%v\n%s", err, p.Text)
	}
}

// A program that listens and has no preset is run as it is.
func TestProgramsThatListenAreUnmodified(t *testing.T) {
	p := one(t, "command=/srv/shop/bin/shop --listen 127.0.0.1:8000\n")
	c, err := config.Parse("/x/y.yaml", []byte(p.Text), nil, config.Host{Root: true})
	if err != nil || c.Worker.Kind != config.KindUnmodified || len(c.Listeners) != 1 || c.Listeners[0].Address != "tcp://127.0.0.1:8000" {
		t.Errorf("%v\n%s", err, p.Text)
	}
	p = one(t, "command=/bin/cat\n")
	if c, err = config.Parse("/x/y.yaml", []byte(p.Text), nil, config.Host{Root: true}); err != nil || c.Worker.Kind != config.KindSocketActivation || !strings.Contains(p.Text, "kind: unmodified") {
		t.Errorf("%v\n%s", err, p.Text)
	}
}

// An address in a program's environment or options is often that of a server which it
// is a client of.
func TestPeersAreNoListeners(t *testing.T) {
	for text, want := range map[string]string{ // the listener; empty: none, and it is not run as one that listens
		"command=/bin/x\nenvironment=REDIS_ADDR=\"127.0.0.1:6379\"\n":                "",
		"command=/bin/x\nenvironment=DB_PORT=\"5432\"\n":                             "",
		"command=/bin/x --broker=10.0.0.5:5672\n":                                    "",
		"command=/bin/x --broker 10.0.0.5:5672\n":                                    "",
		"command=/bin/gunicorn app:app\nenvironment=REDIS_ADDR=\"127.0.0.1:6379\"\n": "",
		"command=/bin/x\nenvironment=DB_PORT=\"5432\",PORT=\"8000\"\n":               "tcp://127.0.0.1:8000",
		"command=/bin/x\nenvironment=HTTP_ADDR=\":8000\"\n":                          "tcp://:8000",
		"command=/bin/x --broker=10.0.0.5:5672 --port 8000\n":                        "tcp://127.0.0.1:8000",
		"command=/bin/x serve 127.0.0.1:8000\n":                                      "tcp://127.0.0.1:8000",
	} {
		p := one(t, text)
		c, err := config.Parse("/x/y.yaml", []byte(p.Text), nil, config.Host{Root: true})
		switch {
		case err != nil:
			t.Errorf("%s: %v\n%s", text, err, p.Text)
		case want == "" && (len(c.Listeners) != 0 || c.Worker.Kind == config.KindUnmodified):
			t.Errorf("%s: a peer is a listener:\n%s", text, p.Text)
		case want != "" && (len(c.Listeners) != 1 || c.Listeners[0].Address != want || c.Worker.Kind != config.KindUnmodified):
			t.Errorf("%s: want %s\n%s", text, want, p.Text)
		}
	}
}

// A variable of the program's own goes before supervisord's, wherever it stands.
func TestOwnEnvironmentGoesFirst(t *testing.T) {
	for _, text := range []string{
		"environment=PORT=\"9\"\ncommand=/bin/x %(ENV_PORT)s %(ENV_ALL)s\n", "command=/bin/x %(ENV_PORT)s %(ENV_ALL)s\nenvironment=PORT=\"9\"\n",
	} {
		p := one(t, text+"[supervisord]\nenvironment=PORT=8,ALL=7\n", "PORT=1", "ALL=1")
		if !slices.Equal(p.command, []string{"/bin/x", "9", "7"}) {
			t.Errorf("%s: %q", text, p.command)
		}
	}
	// Its own value may be made of supervisord's.
	if p := one(t, "command=/bin/x %(ENV_A)s\nenvironment=A=\"%(ENV_A)s/own\"\n", "A=base"); p.command[1] != "base/own" {
		t.Errorf("%q", p.command)
	}
}

// one imports a file with one program.
func one(t *testing.T, text string, env ...string) *Program {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s.conf")
	if err := os.WriteFile(path, []byte("[program:x]\n"+text), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := Import(path, env, config.Host{Root: true})
	if err != nil {
		t.Fatal(err)
	}
	return r.Programs[0]
}

// Names that come out the same are kept apart, and fit.
func TestServiceNames(t *testing.T) {
	taken := map[string]bool{}
	long := strings.Repeat("x", 40)
	for _, c := range [][2]string{{"a_b", "a-b"}, {"A.b", "a-b-2"}, {"---", "program"}, {"é", "program-2"}, {long, long[:32]}, {long + "y", long[:30] + "-2"}} {
		if got := draft.ServiceName(c[0], taken); got != c[1] {
			t.Errorf("%s: %s, want %s", c[0], got, c[1])
		}
	}
}

// Whatever a file says, what is written is read as masterd reads it, or told.
func FuzzImport(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.conf")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Add("[program:x]\ncommand=`\nnumprocs=9999999999\n")
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, "include") { // reads other files
			return
		}
		path := filepath.Join(t.TempDir(), "s.conf")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := Import(path, nil, config.Host{Root: true})
		if err != nil {
			return
		}
		for _, p := range r.Programs {
			if p.Text == "" || slices.ContainsFunc(p.Notes, func(n Note) bool { return n.Key == "check" }) {
				continue
			}
			c, err := config.Parse("/x/y.yaml", []byte(p.Text), nil, config.Host{Root: true})
			if err != nil {
				t.Fatalf("%v\n%s", err, p.Text)
			}
			if !slices.Equal(c.Worker.Command[1:], p.command[1:]) {
				t.Fatalf("%q became %q", p.command, c.Worker.Command)
			}
		}
	})
}
