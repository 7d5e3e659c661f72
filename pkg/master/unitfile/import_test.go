package unitfile

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/master/config"
)

var rewrite = flag.Bool("update", false, "write testdata/*.golden anew")

// A unit with each key that is known, one with a preset, one that is a template: what becomes of
// them, and what is said.
func TestGolden(t *testing.T) {
	dir, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	for name, socket := range map[string]string{"shop": "testdata/shop.socket", "blog": "", "queue@": "", "alone": ""} {
		service := filepath.Join("testdata", name+".service")
		if name == "alone" { // its socket is not named
			service = "testdata/shop.service"
		}
		u, err := Import(service, socket, config.Host{Root: true})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var b strings.Builder
		for _, n := range u.Notes {
			fmt.Fprintf(&b, "%s %s: %s\n", map[bool]string{true: "!", false: " "}[n.Open], n.Key, n.Text)
		}
		fmt.Fprintf(&b, "--- %s.yaml\n%s", u.Service, u.Text)
		got := strings.ReplaceAll(b.String(), dir, "$DIR")
		golden := filepath.Join("testdata", name+".golden")
		if *rewrite {
			if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if want, _ := os.ReadFile(golden); got != string(want) {
			t.Errorf("%s: got\n%s--- want\n%s", name, got, want)
		}
	}
}

func TestParse(t *testing.T) {
	for text, want := range map[string]string{
		"[A]\nx=1\n#c\n;d\n\n y = 2 3 \n":        "A x=1|A y=2 3",
		"[A]\nx=1 \\\n  2 \\\n# c\n3\ny=4":       "A x=1    2  3|A y=4",
		"[A]\nx=a\\\\\ny=\n":                     `A x=a\\|A y=`,
		"[A]\nx=1\\\n\ny=2\n":                    "A x=1|A y=2",
		"[A]\r\nx=1\r\n[B]\r\nx==\r\n":           "A x=1|B x==",
		"\ufeff[A]\nx=1\\":                       "A x=1",
		"[A]\nx=1\n.include /etc/x\n[A]\nx=2":    "A x=1|A x=2",
		"x=1\n[A]\nno\nx=\xff\nx=a\x00b\nx=\\\n": "A x=",
	} {
		entries, _, err := parse(text)
		var got []string
		for _, e := range entries {
			got = append(got, e.section+" "+e.key+"="+e.value)
		}
		if err != nil || strings.Join(got, "|") != want {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	if _, wrong, _ := parse("x=1\n[A]\nno\nx=\xff\n"); len(wrong) != 3 {
		t.Errorf("%q", wrong)
	}
	if _, _, err := parse("[A]\n[B\nx=1\n"); err == nil || !strings.Contains(err.Error(), ":2: ") {
		t.Error(err)
	}
}

func TestWords(t *testing.T) {
	for value, want := range map[string][]string{
		`a "b c" 'd e'f`:               {"a", "b c", "d ef"},
		`"a\"b" '\x41\101\u00e9' \s`:   {`a"b`, "AAé", " "},
		`a\tb a\qb \;`:                 {"a\tb", `a\qb`, `\;`},
		`"" x`:                         {"", "x"},
		"a\t\nb":                       {"a", "b"},
		`"one=two words" three="x\\y"`: {"one=two words", `three=x\y`},
	} {
		if got, err := words(value); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %q, %v", value, got, err)
		}
	}
	for _, value := range []string{`a "b`, `a 'b`, `a \`, `\xff`} {
		if got, err := words(value); err == nil {
			t.Errorf("%s: %q", value, got)
		}
	}
}

func TestSpecifiers(t *testing.T) {
	for _, c := range [][3]string{
		{"a-b@x-y\\x2d.service", "%n %N %p %P %i %I", "a-b@x-y\\x2d.service a-b@x-y\\x2d a-b a/b x-y\\x2d x/y-"},
		{"shop.service", "%p%i 100%% %t/%p %S %u %h %! %", "shop 100% /run/shop /var/lib root /root %! %"},
	} {
		if got, err := specifiersOf(c[0]).expand(c[1]); err != nil || got != c[2] {
			t.Errorf("%s: %q, %v", c[1], got, err)
		}
	}
	for text, want := range map[string]string{"%i": "needs an instance", "%H": "on the machine"} {
		if got, err := specifiersOf("a@.service").expand(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %q, %v", text, got, err)
		}
	}
}

func TestSpansAndSizes(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"90": 90 * time.Second, "5min 20s": 320 * time.Second, "1.5h": 90 * time.Minute, "2min200ms": 2*time.Minute + 200*time.Millisecond,
		"0": 0, "infinity": forever, "1d": 24 * time.Hour, "500 ms": 500 * time.Millisecond,
	} {
		if got, ok := span(text); !ok || got != want {
			t.Errorf("%s: %s, %v", text, got, ok)
		}
	}
	for _, text := range []string{"", "soon", "5 parsecs", "-1", "1..2", "999999999999999w", "3y"} {
		if got, ok := span(text); ok {
			t.Errorf("%s: %s", text, got)
		}
	}
	for text, want := range map[string]uint64{"1024": 1024, "64K": 64 << 10, "1G": 1 << 30, "536870912": 536870912} {
		if got, ok := bytes(text); !ok || got != want {
			t.Errorf("%s: %d, %v", text, got, ok)
		}
	}
	for _, text := range []string{"", "K", "30%", "1KK", "-1", "99999999T", "18446744073709551615T"} {
		if got, ok := bytes(text); ok {
			t.Errorf("%s: %d", text, got)
		}
	}
}

// one imports a unit of one section.
func one(t *testing.T, name, text string) (*Unit, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte("[Service]\n"+text), 0o600); err != nil {
		t.Fatal(err)
	}
	return Import(path, "", config.Host{Root: true})
}

// What is run, and what is not.
func TestCommand(t *testing.T) {
	for text, want := range map[string][]string{
		"ExecStart=/bin/x a b":                                        {"/bin/x", "a", "b"},
		"Environment=A='1 2' B=3\nExecStart=/bin/x $A ${A} x$B":       {"/bin/x", "1", "2", "1 2", "x$B"},
		"ExecStart=/bin/x ${B}\nEnvironment=B=3":                      {"/bin/x", "3"},
		"Environment=B=3\nExecStart=:/bin/x ${B} $$":                  {"/bin/x", "${B}", "$$"},
		"Environment=B=%%p\nExecStart=/bin/x ${B}":                    {"/bin/x", "%p"},
		"Environment=B=3\nEnvironment=\nExecStart=/bin/x ${B} $B":     {"/bin/x", "${B}", "$B"},
		"ExecStart=@-/bin/x name a":                                   {"/bin/x", "a"},
		"ExecStart=/bin/false\nExecStart=\nExecStart=/bin/x ; /bin/y": {"/bin/x"},
		`ExecStart=/bin/x \; $$ ${`:                                   {"/bin/x", ";", "$", "${"},
		"ExecStart=x":                                                 {"x"},
	} {
		if u, err := one(t, "x.service", text); err != nil || !slices.Equal(u.worker.command, want) {
			t.Errorf("%s: %+v, %v", text, u, err)
		}
	}
	for text, want := range map[string]string{
		"":                           "no [Service]",
		"ExecStart=":                 "no [Service]",
		"ExecStart=\"x":              "a quote is not closed",
		"ExecStart=bin/x":            "is no path",
		"ExecStart=-":                "is no path",
		"ExecStart=@/bin/x":          "there is no name",
		"ExecStart=/bin/x %H":        "%H is known on the machine",
		"ExecStart=/bin/x\n[Service": ":3: the section's name",
	} {
		if u, err := one(t, "x.service", text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %+v, %v", text, u, err)
		}
	}
	if _, err := one(t, "x.service", ""); !errors.Is(err, errNone) {
		t.Error(err)
	}
}

// Drop-ins come after the unit, by name.
func TestDropIns(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"x.service":             "[Service]\nExecStart=/bin/x\nUser=a\n",
		"x.service.d/20.conf":   "[Service]\nUser=c\n",
		"x.service.d/10.conf":   "[Service]\nUser=b\nExecStart=\nExecStart=/bin/y\n",
		"x.service.d/other.txt": "[Service]\nUser=d\n",
	} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	u, err := Import(filepath.Join(dir, "x.service"), "", config.Host{Root: true})
	if err != nil || u.worker.user != "c" || u.worker.command[0] != "/bin/y" {
		t.Errorf("%+v, %v", u, err)
	}
}

// Whatever the files say, what is written is read as masterd reads it, or told.
func FuzzImport(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.service")
	socket, err := os.ReadFile("testdata/shop.socket")
	if err != nil || len(files) == 0 {
		f.Fatal(files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text), string(socket))
	}
	f.Add("[Service]\nExecStart=`\\U00110000 ${\\", "[Socket]\nListenStream=0\n")
	f.Fuzz(func(t *testing.T, service, socket string) {
		dir := t.TempDir()
		paths := [2]string{filepath.Join(dir, "x.service"), filepath.Join(dir, "x.socket")}
		for i, text := range []string{service, socket} {
			if err := os.WriteFile(paths[i], []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		for _, socket := range []string{"", paths[1]} {
			u, err := Import(paths[0], socket, config.Host{Root: true})
			if err != nil || slices.ContainsFunc(u.Notes, func(n Note) bool { return n.Key == "check" }) {
				continue
			}
			c, err := config.Parse("/x/y.yaml", []byte(u.Text), nil, config.Host{Root: true})
			if err != nil {
				t.Fatalf("%v\n%s", err, u.Text)
			}
			if !slices.Equal(c.Worker.Command[1:], u.worker.command[1:]) {
				t.Fatalf("%q became %q", u.worker.command, c.Worker.Command)
			}
		}
	})
}

func TestStreams(t *testing.T) {
	for value, want := range map[string]string{
		"80": "tcp://:80", "127.0.0.1:80": "tcp://127.0.0.1:80", "[::1]:80": "tcp://[::1]:80", "[::]:80": "tcp://:80",
		"0.0.0.0:80": "tcp://0.0.0.0:80", "/run/x.sock": "unix:///run/x.sock",
	} {
		if l, err := stream(value, nil); err != nil || l.address != want || l.backlog != 0 {
			t.Errorf("%s: %+v, %v", value, l, err)
		}
	}
	options := map[string]string{"BindIPv6Only": "ipv6-only", "SocketMode": "0660", "Backlog": "7"}
	for value, want := range map[string]string{"80": "tcp6://:80", "[::]:80": "tcp6://:80", "127.0.0.1:80": "tcp://127.0.0.1:80", "/x": "unix:///x?mode=0660"} {
		if l, err := stream(value, options); err != nil || l.address != want || l.backlog != 7 {
			t.Errorf("%s: %+v, %v", value, l, err)
		}
	}
	for _, value := range []string{"@x", "vsock:2:80", "host:80", "70000", "/x?mode=0777"} {
		if l, err := stream(value, nil); err == nil {
			t.Errorf("%s: %+v", value, l)
		}
	}
}
