package draft

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/version"
)

// Program is what a command line runs.
type Program struct {
	Typed   []string          // the command line, without variables before it
	Env     map[string]string // those variables
	Dir     string            // where it was typed, absolute
	Path    string            // of the program's file, absolute
	Preset  *Preset           // nil: nothing is known of it
	Kind    string            // as worker.kind
	Sign    string            // what says where it listens; empty: nothing does
	Address string            // HOST:PORT, as Sign has it; empty: it is not known
	Notes   []string          // what a person should know

	why string // it is of this kind
}

// Surroundings are where a command line was typed.
type Surroundings struct {
	Dir  string // absolute
	Path string // PATH
	Port string // PORT; empty: it is not set
}

var assignment = lazy(`^[A-Za-z_][A-Za-z0-9_]*=`)

// Look says what a command line runs. It reads the program's file and starts nothing.
func Look(command []string, in Surroundings) (*Program, error) {
	p := &Program{Dir: in.Dir, Env: map[string]string{}}
	for len(command) > 0 && assignment().MatchString(command[0]) { // as env(1) and a shell have it
		name, value, _ := strings.Cut(command[0], "=")
		p.Env[name], command = value, command[1:]
	}
	if len(command) == 0 || command[0] == "" {
		return nil, errors.New("no program is named: write it after --, as in -- ./shop --mode=prod")
	}
	p.Typed = slices.Clone(command)
	if err := p.find(in); err != nil {
		return nil, err
	}
	if err := p.misunderstood(); err != nil {
		return nil, err
	}
	p.know()
	p.Sign, p.Address = AddressOf(p.Typed, p.Env)
	if p.Address == "" && p.Sign == "" && addressOf(in.Port) != "" {
		// It is set for the program, which would not get it otherwise.
		p.Env["PORT"] = in.Port
		p.Sign, p.Address = "PORT="+in.Port, addressOf(in.Port)
	}
	if p.Address == "" && p.Preset != nil {
		p.Address = p.Preset.address
	}
	return p, nil
}

// find finds the program's file.
func (p *Program) find(in Surroundings) error {
	name := p.Typed[0]
	if !strings.ContainsRune(name, filepath.Separator) {
		for _, dir := range filepath.SplitList(in.Path) {
			path := filepath.Join(dir, name)
			if filepath.IsAbs(dir) && executable(path) == nil {
				p.Path = path
				return nil
			}
		}
		if executable(filepath.Join(in.Dir, name)) == nil {
			return fmt.Errorf("%s is not in PATH; the one in this directory is ./%s", name, name)
		}
		return fmt.Errorf("%s is not in PATH: name the program by its path, or install it", name)
	}
	p.Path = name
	if !filepath.IsAbs(name) {
		p.Path = filepath.Join(in.Dir, name)
	}
	return executable(p.Path)
}

func executable(path string) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("there is no %s; build the program first", path)
	case err != nil:
		return err
	case info.IsDir():
		return fmt.Errorf("%s is a directory; name the program in it", path)
	case info.Mode()&0o111 == 0:
		return fmt.Errorf("%s cannot be executed: chmod +x it, or name its interpreter first (python3 "+
			"%s)", path, filepath.Base(path))
	}
	return nil
}

// misunderstood refuses what starts a program in a way that a supervisor cannot follow.
func (p *Program) misunderstood() error {
	name := filepath.Base(p.Path)
	switch {
	case name == "go" && len(p.Typed) > 1 && p.Typed[1] == "run":
		return errors.New("go run builds a program in a temporary place and starts it as its child: go build -o " +
			"app . first, and name ./app")
	case slices.Contains([]string{"docker", "podman"}, name):
		return fmt.Errorf("%s only asks another daemon to start the program, which is no worker then: name the "+
			"program itself", name)
	case slices.Contains([]string{"sudo", "su", "runuser"}, name):
		return fmt.Errorf("%s is not for a worker: name the program itself, and its user as worker.user, for a "+
			"master that runs as root", name)
	case slices.Contains([]string{"systemctl", "service", "supervisorctl", "pm2"}, name):
		return fmt.Errorf("%s only asks another supervisor to start the program: name the program itself", name)
	case slices.Contains([]string{"npm", "npx", "yarn", "pnpm"}, name):
		p.Notes = append(p.Notes, name+" starts the program as its child: naming node and the script itself costs "+
			"a process less, and signals reach the program at once")
	case slices.Contains([]string{"sh", "bash", "dash", "zsh"}, name):
		p.Notes = append(p.Notes, name+" stays between masterd and the program unless the last command begins "+
			"with exec")
	}
	return nil
}

// know says of which kind it is.
func (p *Program) know() {
	isGo, speaks := version.Mentions(p.Path, ipc.EnvSecret)
	p.Preset = PresetOf(append([]string{p.Path}, p.Typed[1:]...))
	switch {
	case speaks:
		p.Preset, p.Kind, p.why = nil, config.KindSDK, "It is a Go program that is built on pkg/worker."
	case p.Preset != nil:
		p.Kind, p.why = config.PresetKind(p.Preset.Name), "What masterd knows of this server: how it takes its "+
			"sockets, and how it ends."
		p.foreground()
	case isGo:
		p.Kind, p.why = config.KindUnmodified, "It is a Go program without pkg/worker, so it binds its address by "+
			"itself, and is given masterd's socket then."
	default:
		p.Kind, p.why = config.KindUnmodified, "It binds its address by itself, and is given masterd's socket then."
	}
}

// foreground has nginx stay, and not become a daemon.
func (p *Program) foreground() {
	if p.Preset.Name != "nginx" || strings.Contains(strings.Join(p.Typed, " "), "daemon") {
		return
	}
	if i := slices.Index(p.Typed, "-c"); i >= 0 && i+1 < len(p.Typed) {
		path := p.Typed[i+1]
		if !filepath.IsAbs(path) {
			path = filepath.Join(p.Dir, path)
			p.Typed[i+1] = path // nginx finds it from its own prefix, and not from where it is started
		}
		if text, err := os.ReadFile(path); err == nil && strings.Contains(string(text), "daemon off") {
			return
		}
	}
	p.Typed = append(p.Typed, "-g", "daemon off;")
}

// KnowsAddress tells whether it takes any address, so that where it listens by itself is
// of no matter, or says where it listens.
func (p *Program) KnowsAddress() bool {
	return p.Sign != "" && p.Address != "" || p.Kind == config.KindSDK || p.Preset != nil && !p.Preset.places
}

// Name is what its service can be called.
func (p *Program) Name() string {
	if dir := filepath.Base(p.Dir); (p.Preset != nil || p.interpreter()) && dir != "/" && dir != "." {
		return dir
	}
	name := filepath.Base(p.Path)
	return strings.TrimSuffix(name, filepath.Ext(name))
}

// interpreted: it is not one file.
func (p *Program) interpreted() bool { return p.interpreter() || script(p.Path) }

// interpreter: what it serves is another file.
func (p *Program) interpreter() bool {
	return slices.Contains([]string{"python", "ruby", "perl", "java", "php", "deno", "bun", "bundle", "npm", "npx", "yarn", "pnpm", "sh", "bash", "dash", "zsh"}, programName(p.Path))
}

func script(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	head := make([]byte, 2)
	n, _ := f.Read(head)
	return string(head[:n]) == "#!"
}

// command is what the configuration has for a file in dir: a program beside it is named from
// there, and goes with it. listener is the one that it is given, if there is one.
func (p *Program) command(dir, listener string) []string {
	args := slices.Clone(p.Typed)
	args[0] = p.Path
	if rel, err := filepath.Rel(dir, p.Path); err == nil && filepath.IsLocal(rel) && dir == p.Dir {
		args[0] = "./" + rel
	}
	if p.Preset == nil || p.Preset.Name != "uvicorn" || slices.Contains(args, "--fd") || listener == "" {
		return args
	}
	var kept []string // its socket comes from masterd
	for i := 0; i < len(args); i++ {
		switch {
		case args[i] == "--host", args[i] == "--port", args[i] == "--uds":
			i++
		case strings.HasPrefix(args[i], "--host="), strings.HasPrefix(args[i], "--port="), strings.HasPrefix(args[i], "--uds="):
		default:
			kept = append(kept, args[i])
		}
	}
	return append(kept, "--fd", "{fd:"+listener+"}")
}

func (p *Program) variables() []string { return slices.Sorted(maps.Keys(p.Env)) }
