// Package programs runs servers as they are packaged, each by its example in
// configs/examples, and reloads them under clients that never retry.
package programs

import (
	"context"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/test/load"
	"github.com/masterd/masterd/test/service"
	"github.com/masterd/masterd/test/service/servicetest"
)

// reloads is how often each program is reloaded; what is published was 30 times.
var reloads = flag.Int("programs.reloads", 2, "how often each program is reloaded")

// must has a program that is not installed fail the test.
var must = flag.Bool("programs.must", false, "fail where a program is not installed")

const (
	freshRate = 300 // requests a second, each on a connection of its own: what is published with
	fewRate   = 100 // the same where nothing is published: enough for some to be under way at any time
	keptRate  = 100 // on each 8 kept ones; of those that ask less often each would hold one of Puma's threads
	// drainTime is what an old version gets here: clients that never stop using
	// their connection would hold it for all of its drain. A slow machine's clients must
	// have got their answers by then, or they are cut as the setting says.
	drainTime = "6s"
)

// How a program's end treats clients that keep their connections and never stop
// using them.
const (
	polite = "closed after an answer"
	used   = "closed when the drain's time is over, at a moment when nobody waits for an answer" // a request may be on its way
	none   = "it keeps none"
)

type program struct {
	name    string
	example string // in configs/examples
	needs   string // what must be installed
	kept    string
	change  func(t *testing.T, s *service.Service, dir string)
}

func all() []program {
	return []program{
		{"gunicorn", "gunicorn", "/usr/bin/gunicorn", none, nil},
		{"gunicorn-threads", "gunicorn-threads", "/usr/bin/gunicorn", used, nil},
		{"uvicorn", "uvicorn", "/usr/lib/python3/dist-packages/uvicorn", used, nil},
		{"node", "node", "/usr/bin/node", used, nil},
		{"node-cluster", "node", "/usr/bin/node", used, nil},
		{"nginx", "nginx", "/usr/sbin/nginx", used, nil},
		{"static", "static", "/usr/sbin/nginx", used, documented},
		{"haproxy", "haproxy", "/usr/sbin/haproxy", polite, nil},
		{"haproxy-unmodified", "haproxy", "/usr/sbin/haproxy", polite, bindsItself},
		{"caddy", "caddy", "/usr/bin/caddy", used, nil},
		{"puma", "puma", "/usr/bin/puma", used, nil},
		{"php-fpm", "php-fpm", "/usr/sbin/php-fpm8.2", none, behindNginx},
		{"apache", "apache", "/usr/sbin/apache2", used, nil},
		{"lighttpd", "lighttpd", "/usr/sbin/lighttpd", used, nil},
		{"php", "php", "/usr/bin/php", none, nil},
		{"python-http", "python-http", "/usr/bin/python3", used, nil},
		{"tomcat", "tomcat", "/usr/share/tomcat10/bin/catalina.sh", used, nil},
		{"java", "java", "/usr/bin/javac", used, nil},
		{"bolt", "bolt", "", used, builtBolt},
		{"net-http", "gin-unmodified", "", used, ours("plain")},
		{"gin", "gin-unmodified", "", used, ours("gin")},
	}
}

var (
	built   service.Programs
	scratch string // a directory for what is made once
)

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if runtime.GOOS != "linux" {
		fmt.Println("masterd runs on Linux: skipped")
		return 0
	}
	dir, err := os.MkdirTemp("", "masterd-programs-")
	if err == nil {
		defer os.RemoveAll(dir)
		err = os.Chmod(dir, 0o755)
	}
	if err == nil {
		scratch = dir
		built, err = service.Build(context.Background(), dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// besideOthers has a test run beside others, for it waits for most of its time; what is
// published is measured alone.
func besideOthers(t *testing.T) {
	t.Helper()
	if !*must {
		t.Parallel()
	}
}

func TestPrograms(t *testing.T) {
	besideOthers(t)
	counts := keptCounts(t)
	rows := &table{}
	t.Cleanup(func() { t.Log(rows) })
	for _, p := range all() {
		t.Run(p.name, func(t *testing.T) {
			besideOthers(t)
			if _, err := os.Stat(p.needs); p.needs != "" && err != nil {
				if *must {
					t.Fatal(err)
				}
				t.Skip(err)
			}
			for _, kept := range counts {
				rows.add(p.run(t, kept, *requests*kept/sum(counts)))
			}
		})
	}
}

// run reloads it while kept connections are in use, and until there were so many requests on
// them.
func (p program) run(t *testing.T, connections, requests int) row {
	dir := servicetest.ShortDir(t)
	s, err := service.New(built, servicetest.ShortDir(t))
	if err != nil {
		t.Fatal(err)
	}
	p.layOut(t, s, dir)
	servicetest.StopAtEnd(t, s)
	if p.change != nil {
		p.change(t, s, dir)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	reloading, reloaded := context.WithCancel(ctx)
	defer reloaded()
	rate := fewRate
	if *must {
		rate = freshRate
	}
	fresh := load.Start(reloading, load.Plan{Addr: s.Addr, Rate: rate, Fresh: 16})
	kept := load.Start(ctx, load.Plan{Addr: s.Addr, Rate: connections * keptRate / 8, Kept: connections})
	var took time.Duration
	for i := range *reloads {
		begun := time.Now()
		s.Config.Set("worker.env.RELEASE", fmt.Sprintf("v%d", i+2))
		if err := s.Write(); err != nil {
			t.Fatal(err)
		}
		out, err := s.API.Reload(t.Context(), api.ReloadRequest{Label: fmt.Sprintf("v%d", i+2), Until: "baked"}, nil)
		if err != nil || out.Result != api.ResultDone {
			t.Fatalf("reload %d: %+v, %v", i+1, out, err)
		}
		took += time.Since(begun)
		waitRequests(t, kept, uint64(requests*(i+1) / *reloads))
	}
	reloaded() // the drain that is left is about kept connections
	if err := s.Wait(t.Context(), 30*time.Second, "old versions to end", func(st api.Status) bool { return len(st.Generations) == 1 }); err != nil {
		t.Error(err)
	}
	cancel()
	f, k := fresh.Wait(), kept.Wait()
	if f.Failed() > 0 || f.Requests == 0 {
		t.Errorf("%d of %d requests on new connections failed:\n%s", f.Failed(), f.Requests, f)
	}
	if p.name == "bolt" {
		counted(t, s.Addr, f.Requests-f.Failed()+k.Requests-k.Failed())
	}
	if p.kept != used && k.Failed() > 0 {
		t.Errorf("kept connections, which it need not close under a request:\n%s", k)
	}
	return row{p.name, connections, took / time.Duration(max(*reloads, 1)), f, k}
}

// layOut makes of the example and of the program's files what can be run here.
func (p program) layOut(t *testing.T, s *service.Service, dir string) {
	t.Helper()
	_, port, _ := strings.Cut(s.Addr, ":")
	text, err := os.ReadFile(filepath.Join("../../configs/examples", p.example+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var example map[string]any
	if err := yaml.Unmarshal(text, &example); err != nil {
		t.Fatal(err)
	}
	worker, _ := example["worker"].(map[string]any)
	was, _ := worker["directory"].(string)
	if was == "" {
		was = "/srv/gin"
	}
	account, group := "www-data", "www-data"
	if os.Getuid() != 0 {
		account, group = fmt.Sprint(os.Getuid()), fmt.Sprint(os.Getgid())
	}
	here := strings.NewReplacer(was+"/", dir+"/", was, dir, "8000", port, "9000", port, "DIR", dir, "USER", account, "GROUP", group)
	var config map[string]any
	if err := yaml.Unmarshal([]byte(here.Replace(string(text))), &config); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"runtime_dir", "state_dir", "log"} {
		config[key] = s.Config[key]
	}
	s.Config = config
	s.Config.Set("rollout.bake", "100ms").Set("drain.timeout", drainTime).Set("worker.env.RELEASE", "v1").
		// gunicorn tells its workers once to end, and waits 30 s for one that was just being
		// started and has not heard it.
		Set("stop_timeout", "10s")
	if p.name == "java" || p.name == "tomcat" { // it is started often, and does little: the better compiler would not pay
		s.Config.Set("worker.env.JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1")
	}
	files := os.DirFS(filepath.Join("testdata", p.files()))
	if err := fs.WalkDir(files, ".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
			return os.MkdirAll(filepath.Join(dir, path), 0o755)
		}
		text, err := fs.ReadFile(files, path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, path), []byte(here.Replace(string(text))), 0o644)
	}); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
}

// files is the directory of testdata that the program has.
func (p program) files() string {
	if p.name == "gunicorn-threads" {
		return "gunicorn"
	}
	return p.name
}

// ours puts one of the programs beside this file in the example's place.
func ours(name string) func(*testing.T, *service.Service, string) {
	return func(t *testing.T, s *service.Service, dir string) {
		program := map[string]string{"plain": built.Plain, "gin": built.Gin}[name]
		text, err := os.ReadFile(program)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, "app"), text, 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// bindsItself has a program of the example bind its address.
func bindsItself(_ *testing.T, s *service.Service, _ string) {
	s.Config.Set("worker.kind", "unmodified").Set("worker.env", map[string]any{"RELEASE": "v1"})
}

// documented has nginx run by the configuration that the example's comment says it needs.
func documented(t *testing.T, s *service.Service, dir string) {
	if os.Getuid() != 0 {
		t.Skip("nginx has its temporary files where only root may write")
	}
	text, err := os.ReadFile("../../configs/examples/static.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var conf strings.Builder
	_, port, _ := strings.Cut(s.Addr, ":")
	here := strings.NewReplacer("/srv/site", dir, "8000", port)
	for line := range strings.Lines(string(text)) {
		if code, ok := strings.CutPrefix(line, "#     "); ok {
			conf.WriteString(here.Replace(code))
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "nginx.conf"), []byte(conf.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

// behindNginx has the clients come through nginx, which speaks FastCGI to the
// service, on a new connection each time, and does not try again.
func behindNginx(t *testing.T, s *service.Service, dir string) {
	front, err := service.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "front.conf")
	text, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, []byte(strings.ReplaceAll(string(text), "FRONT", front)), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	nginx := exec.Command("/usr/sbin/nginx", "-c", path, "-p", dir)
	nginx.Stderr = os.Stderr
	if err := nginx.Start(); err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() {
		_ = nginx.Process.Signal(syscall.SIGTERM)
		_ = nginx.Wait()
	})
	s.Addr = front
}
