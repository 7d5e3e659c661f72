package memory

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/master/rollout"
)

const mib = 1 << 20

// machine builds one from files, named from its root.
func machine(t *testing.T, files map[string]string) Machine {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("42", filepath.Join(root, "proc/self")); err != nil {
		t.Fatal(err)
	}
	return Machine{Proc: filepath.Join(root, "proc"), Root: root}
}

// with adds files to a machine with 1,000 MiB, of which 400 are available.
func with(t *testing.T, files map[string]string) Machine {
	t.Helper()
	all := map[string]string{
		"proc/meminfo":      "MemTotal:        1024000 kB\nMemFree:           10240 kB\nMemAvailable:     409600 kB\n",
		"proc/42/cgroup":    "",
		"proc/42/mountinfo": "22 1 0:21 / /proc rw - proc proc rw\n",
	}
	for name, text := range files {
		all[name] = text
	}
	return machine(t, all)
}

func TestLook(t *testing.T) {
	v2 := "35 25 0:30 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
	v1 := "36 25 0:31 / /sys/fs/cgroup/memory rw,nosuid shared:10 - cgroup cgroup rw,memory\n"
	for _, c := range []struct {
		name  string
		files map[string]string
		want  uint64 // MiB available
	}{
		{"the machine alone", nil, 400},
		{"v2, the unit's own limit", map[string]string{
			"proc/42/cgroup": "0::/system.slice/shop.service\n", "proc/42/mountinfo": v2,
			"sys/fs/cgroup/system.slice/shop.service/memory.max":     "209715200\n", // 200 MiB
			"sys/fs/cgroup/system.slice/shop.service/memory.high":    "max\n",
			"sys/fs/cgroup/system.slice/shop.service/memory.current": "104857600\n",                      // 100 MiB
			"sys/fs/cgroup/system.slice/shop.service/memory.stat":    "anon 1\ninactive_file 20971520\n", // 20 MiB
			"sys/fs/cgroup/system.slice/memory.max":                  "max\n",
			"sys/fs/cgroup/system.slice/memory.current":              "1048576000\n",
		}, 120},
		{"v2, a limit further up", map[string]string{
			"proc/42/cgroup": "0::/system.slice/shop.service\n", "proc/42/mountinfo": v2,
			"sys/fs/cgroup/system.slice/shop.service/memory.max":     "max\n",
			"sys/fs/cgroup/system.slice/shop.service/memory.current": "104857600\n",
			"sys/fs/cgroup/system.slice/memory.max":                  "209715200\n",
			"sys/fs/cgroup/system.slice/memory.current":              "199229440\n", // 190 MiB
		}, 10},
		{"v2, more used than allowed, with memory.high", map[string]string{
			"proc/42/cgroup": "0::/shop\n", "proc/42/mountinfo": v2,
			"sys/fs/cgroup/shop/memory.max":     "209715200\n",
			"sys/fs/cgroup/shop/memory.high":    "104857600\n",
			"sys/fs/cgroup/shop/memory.current": "115343360\n",
		}, 0},
		{"v2, in a container that sees itself as the root", map[string]string{
			"proc/42/cgroup": "0::/\n", "proc/42/mountinfo": v2,
			"sys/fs/cgroup/memory.max":     "209715200\n",
			"sys/fs/cgroup/memory.current": "104857600\n",
		}, 100},
		{"v1, in a container that sees the host's path", map[string]string{
			"proc/42/cgroup":    "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n",
			"proc/42/mountinfo": strings.Replace(v1, " / ", " /docker/abc ", 1),
			"sys/fs/cgroup/memory/memory.limit_in_bytes":         "209715200\n",
			"sys/fs/cgroup/memory/memory.usage_in_bytes":         "157286400\n", // 150 MiB
			"sys/fs/cgroup/memory/memory.stat":                   "inactive_file 1\ntotal_inactive_file 10485760\n",
			"sys/fs/cgroup/memory/docker/memory.limit_in_bytes":  "1\n",
			"sys/fs/cgroup/memory/docker/memory.usage_in_bytes ": "1\n",
		}, 60},
		{"v1, hybrid, no limit", map[string]string{
			"proc/42/cgroup": "4:memory:/a\n0::/a\n", "proc/42/mountinfo": v2 + v1,
			"sys/fs/cgroup/memory/a/memory.limit_in_bytes": "9223372036854771712\n",
			"sys/fs/cgroup/memory/a/memory.usage_in_bytes": "1048576\n",
		}, 400},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := with(t, c.files).Look(nil)
			if want := (rollout.Memory{Known: true, Available: c.want * mib}); got != want {
				t.Errorf("%+v, want %+v", got, want)
			}
		})
	}
}

func TestLargestWorker(t *testing.T) {
	rollup := "00400000-7fff00000000 ---p 00000000 00:00 0 [rollup]\nRss: 90000 kB\nPss: %s kB\nShared_Clean: 0 kB\n"
	m := with(t, map[string]string{
		"proc/7/smaps_rollup": strings.Replace(rollup, "%s", "20480", 1),
		"proc/7/statm":        "9 9 9 9 9 9 9\n",
		"proc/8/smaps_rollup": strings.Replace(rollup, "%s", "30720", 1),
		"proc/9/statm":        "20000 10 5 1 0 100 0\n", // its rollup cannot be read
	})
	if got := m.Look([][]int{{7}, {8}, {9}, {10}}).PerWorker; got != 30*mib {
		t.Errorf("%d", got)
	}
	if got := m.Look([][]int{{7, 8, 10}, {8}}).PerWorker; got != 50*mib {
		t.Errorf("a group counts whole: %d", got)
	}
	if got := m.Look([][]int{{9}}).PerWorker; got != 10*uint64(os.Getpagesize()) {
		t.Errorf("%d", got)
	}
}

func TestUnknown(t *testing.T) {
	m := Machine{Proc: filepath.Join(t.TempDir(), "nothing")}
	if got := m.Look([][]int{{1}}); got != (rollout.Memory{}) {
		t.Errorf("%+v", got)
	}
	if pressed, text := m.Pressure(); pressed || text != "" {
		t.Error(text)
	}
	if u := m.UsageOf(1); u != (Usage{}) {
		t.Errorf("%+v", u)
	}
}

func TestPressure(t *testing.T) {
	for available, want := range map[string]string{
		"409600": "",
		"64000":  "", // a sixteenth of 1,000 MiB is 62.5
		"63999":  "62 MiB of memory available in the machine, of 1000 MiB",
	} {
		m := machine(t, map[string]string{
			"proc/meminfo": "MemTotal: 1024000 kB\nMemAvailable: " + available + " kB\n", "proc/42/cgroup": "", "proc/42/mountinfo": "",
		})
		if pressed, text := m.Pressure(); pressed != (want != "") || text != want {
			t.Errorf("%s kB: %v, %q", available, pressed, text)
		}
	}
	m := with(t, map[string]string{
		"proc/42/cgroup": "0::/shop\n", "proc/42/mountinfo": "35 25 0:30 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
		"sys/fs/cgroup/shop/memory.max":     "209715200\n",
		"sys/fs/cgroup/shop/memory.current": "204472320\n",
	})
	if _, text := m.Pressure(); text != "5.0 MiB of memory available in the cgroup /shop, of 200 MiB" {
		t.Error(text)
	}
}

func TestThisMachine(t *testing.T) {
	got := Machine{}.Look([][]int{{os.Getpid()}})
	if !got.Known || got.Available == 0 || got.PerWorker < mib {
		t.Errorf("%+v", got)
	}
	before := Machine{}.UsageOf(os.Getpid())
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for spent := time.Now(); time.Since(spent) < 50*time.Millisecond; { // five ticks of its clock
	}
	after := Machine{}.UsageOf(os.Getpid())
	if before.RSS < mib || before.FDs < 3 || after.FDs != before.FDs+1 || uint64(after.FDs) > after.MaxFDs || after.CPU == 0 {
		t.Errorf("%+v, then %+v", before, after)
	}
}

func BenchmarkLook(b *testing.B) {
	pids := []int{os.Getpid()}
	for b.Loop() {
		Machine{}.Look([][]int{pids})
	}
}

func BenchmarkUsage(b *testing.B) {
	pid := os.Getpid()
	for b.Loop() {
		Machine{}.UsageOf(pid)
	}
}

func BenchmarkPressure(b *testing.B) {
	for b.Loop() {
		Machine{}.Pressure()
	}
}

// In a container nobody knows what else its user has, and no limit is made up.
func TestProcessesInAContainer(t *testing.T) {
	m := with(t, map[string]string{"proc/sys/kernel/threads-max": "16000\n"})
	if err := os.Mkdir(filepath.Join(m.Proc, "42/ns"), 0o755); err != nil {
		t.Fatal(err)
	}
	for ns, want := range map[string]uint64{"pid:[4026531836]": 14000, "pid:[4026532561]": 0} {
		link := filepath.Join(m.Proc, "42/ns/pid")
		_ = os.Remove(link)
		if err := os.Symlink(ns, link); err != nil {
			t.Fatal(err)
		}
		if got, most := m.ProcessesForUser(1000), m.MostProcesses(); got != want || most != 16000 {
			t.Errorf("%s: %d of %d, want %d", ns, got, most, want)
		}
	}
}

func TestProcesses(t *testing.T) {
	v2 := "35 25 0:30 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
	v1 := "36 25 0:31 / /sys/fs/cgroup/pids rw,nosuid shared:10 - cgroup cgroup rw,pids\n"
	for _, c := range []struct {
		name  string
		files map[string]string
		want  uint64
	}{
		{"nothing is known", nil, 0},
		{"the machine alone", map[string]string{"proc/sys/kernel/threads-max": "16000\n", "proc/sys/kernel/pid_max": "32000\n"}, 14000},
		{"v2, TasksMax= of the unit", map[string]string{
			"proc/42/cgroup": "0::/system.slice/shop.service\n", "proc/42/mountinfo": v2,
			"sys/fs/cgroup/system.slice/shop.service/pids.max": "800\n",
			"sys/fs/cgroup/system.slice/pids.max":              "max\n",
		}, 700},
		{"v2, of a slice above", map[string]string{
			"proc/42/cgroup": "0::/system.slice/shop.service\n", "proc/42/mountinfo": v2,
			"sys/fs/cgroup/system.slice/shop.service/pids.max": "max\n",
			"sys/fs/cgroup/system.slice/pids.max":              "80\n",
		}, 70},
		{"v1, hybrid", map[string]string{
			"proc/42/cgroup": "8:pids:/a\n4:memory:/b\n0::/c\n", "proc/42/mountinfo": v2 + v1,
			"sys/fs/cgroup/pids/a/pids.max": "160\n", "sys/fs/cgroup/pids/b/pids.max": "8\n",
		}, 140},
		{"its user has a worker below", map[string]string{
			"proc/42/cgroup": "0::/shop.service\n", "proc/42/mountinfo": v2, "sys/fs/cgroup/shop.service/pids.max": "800\n",
			"proc/43/cgroup": "0::/shop.service/worker-1\n", "proc/43/status": "Name:\tx\nUid:\t1000\t1000\t1000\t1000\n",
			"proc/44/cgroup": "0::/shop.service.old\n", "proc/44/status": "Name:\tx\nUid:\t1001\t1001\t1001\t1001\n",
		}, 700},
		{"its user has another service", map[string]string{
			"proc/42/cgroup": "0::/shop.service\n", "proc/42/mountinfo": v2, "sys/fs/cgroup/shop.service/pids.max": "800\n",
			"proc/43/cgroup": "0::/shop.service.old\n", "proc/43/status": "Name:\tx\nUid:\t1000\t1000\t1000\t1000\n",
		}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := with(t, c.files).ProcessesForUser(1000); got != c.want {
				t.Errorf("%d, want %d", got, c.want)
			}
		})
	}
}
