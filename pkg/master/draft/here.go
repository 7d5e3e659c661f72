package draft

import (
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// maxHere is how many files of a directory are looked at, and maxManifest how much of one that
// says what is run, in bytes.
const (
	maxHere     = 1000
	maxManifest = 1 << 20
)

// Found is what a directory seems to run.
type Found struct {
	Command []string // as it would be typed
	By      string   // what says so
}

// Here looks for what a directory runs: a Go program that was built from its module, the start of
// its package.json, the web of its Procfile. What is missing where nothing can be run says why.
func Here(dir string) (all []Found, missing []string) {
	note := func(f Found, why string) {
		if len(f.Command) > 0 {
			all = append(all, f)
		} else if why != "" {
			missing = append(missing, why)
		}
	}
	note(goHere(dir))
	note(nodeHere(dir))
	note(procfileHere(dir))
	return all, missing
}

func manifest(dir, name string) (string, bool) {
	info, err := os.Stat(filepath.Join(dir, name))
	if err != nil || !info.Mode().IsRegular() || info.Size() > maxManifest {
		return "", false
	}
	text, err := os.ReadFile(filepath.Join(dir, name))
	return string(text), err == nil
}

var moduleLine = lazy(`(?m)^module\s+"?([^\s"]+)"?`)

// goHere finds the only program in a directory that was built from the module there.
func goHere(dir string) (f Found, missing string) {
	text, ok := manifest(dir, "go.mod")
	if !ok {
		return f, ""
	}
	module := ""
	if m := moduleLine().FindStringSubmatch(text); m != nil {
		module = m[1]
	}
	d, err := os.Open(dir)
	if err != nil {
		return f, ""
	}
	defer d.Close()
	entries, _ := d.ReadDir(maxHere)
	var built []string
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() || info.Mode()&0o111 == 0 || script(filepath.Join(dir, e.Name())) {
			continue
		}
		if b, err := buildinfo.ReadFile(filepath.Join(dir, e.Name())); err == nil && b.Main.Path == module && !strings.HasSuffix(e.Name(), ".test") {
			built = append(built, e.Name())
		}
	}
	switch len(built) {
	case 0:
		return f, fmt.Sprintf("go.mod is here, and no program that was built from %s: go build -o app . first", module)
	case 1:
		return Found{[]string{"./" + built[0]}, "built from go.mod here"}, ""
	}
	return f, fmt.Sprintf("several programs here were built from %s (%s): name the one that is "+
		"meant", module, strings.Join(built, ", "))
}

// nodeHere takes the start script of package.json, if it needs no shell.
func nodeHere(dir string) (f Found, missing string) {
	text, ok := manifest(dir, "package.json")
	if !ok {
		return f, ""
	}
	var m struct {
		Main    string            `json:"main"`
		Scripts map[string]string `json:"scripts"`
	}
	if json.Unmarshal([]byte(text), &m) != nil {
		return f, "package.json is here, and cannot be read"
	}
	if start := m.Scripts["start"]; start != "" {
		if args, ok := words(start); ok {
			return Found{args, "scripts.start of package.json"}, ""
		}
		return f, fmt.Sprintf("scripts.start of package.json is %q, which needs a shell: write what it runs after "+
			"--", start)
	}
	if m.Main != "" {
		return Found{[]string{"node", m.Main}, "main of package.json"}, ""
	}
	return f, "package.json is here, and has no scripts.start"
}

var webLine = lazy(`(?m)^web:\s*(.+?)\s*$`)

func procfileHere(dir string) (f Found, missing string) {
	text, ok := manifest(dir, "Procfile")
	if !ok {
		return f, ""
	}
	m := webLine().FindStringSubmatch(text)
	if m == nil {
		return f, "Procfile is here, and has no web"
	}
	if args, ok := words(m[1]); ok {
		return Found{args, "web of Procfile"}, ""
	}
	return f, fmt.Sprintf("web of Procfile is %q, which needs a shell: write what it runs after --, with $PORT as "+
		"a number", m[1])
}

// words takes a command line apart that is the same with and without a shell.
func words(line string) (args []string, ok bool) {
	if line == "" || strings.ContainsAny(line, "\"'`$\\|&;<>()*?[]{}~#!\n") {
		return nil, false
	}
	return strings.Fields(line), true
}
