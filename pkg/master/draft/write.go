package draft

import (
	"cmp"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/masterd/masterd/pkg/master/config"
)

// Draft is a configuration that is to be written.
type Draft struct {
	Program   *Program
	Service   string
	File      string // where it is to lie, absolute
	Listeners []Listen
	Check     Check
	User      string // that workers run as; empty: the master's
	Root      bool   // the master runs as root
	Beside    []string
	// Runtime and State are directories of its own, absolute; empty: the usual ones.
	Runtime, State string
}

// Listen is a listener.
type Listen struct{ Name, Address, Why string }

// Check is how its workers are checked.
type Check struct {
	Scheme, Path string // of a request; no path: it is a connection alone
	Why          string
}

// Take takes over what a trial has shown.
func (d *Draft) Take(t *Trial) {
	main, others := t.Main()
	if main == nil {
		return
	}
	a := main.Answer
	why := "It bound this when it was started once."
	if at := main.At.Addr(); at.IsUnspecified() {
		why += " That is every address of this machine; behind a proxy here write " +
			"tcp://127.0.0.1:" + fmt.Sprint(main.At.Port()) + "."
	}
	d.Listeners = []Listen{{cmp.Or(main.Name, cmp.Or(a.Scheme, "main")), main.Address(), why}}
	for _, b := range others {
		d.Listeners = append(d.Listeners, Listen{cmp.Or(b.Name, fmt.Sprintf("side-%d", b.At.Port())), b.Address(),
			"It bound this too. Two versions run at once in a reload, so a side port must be a listener."})
	}
	switch {
	case a.Path == "/" && a.Every:
		d.Check = Check{a.Scheme, "/", "GET / answered 200, as every path did, so it says little: write one that " +
			"fails while the program cannot serve."}
	case a.Path == "/":
		d.Check = Check{a.Scheme, "/", "GET / answered 200, and none of the usual paths (/healthz) did. One that " +
			"fails while the program cannot serve says more."}
	case a.Path != "":
		d.Check = Check{a.Scheme, a.Path, "GET " + a.Path + " answered 200. It should fail while the program " +
			"cannot serve, and not because of what others do."}
	case a.Scheme != "":
		d.Check = Check{Why: "It speaks HTTP, and none of the usual paths (/healthz) answered 200. With such a " +
			"path, write http: {path: /healthz} in the place of tcp."}
	}
	d.Beside = t.Beside
}

// At gives it the one listener that somebody has named.
func (d *Draft) At(address, why string) {
	d.Listeners = []Listen{{"http", address, why}}
}

// Text is the configuration, with a comment for each line that says why it is so.
func (d *Draft) Text() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	explain := func(indent, text string) {
		for _, l := range wrap(Comment(text), 96-len(indent)) {
			line("%s# %s", indent, l)
		}
	}
	p := d.Program
	explain("", "A first configuration, by masterd init, for: "+strings.Join(p.Typed, " "))
	explain("", "masterd.yaml(5) explains every key.")
	line("")
	explain("", "The name of the service: masterd status --service "+d.Service+" asks for it.")
	line("service: %s", d.Service)
	if d.Runtime != "" {
		explain("", "For this run alone.")
		line("runtime_dir: %s", Quote(d.Runtime))
		line("state_dir: %s", Quote(d.State))
	}
	line("")
	explain("", "Where clients connect. masterd opens these, and keeps them open while versions come and go.")
	d.writeListeners(line, explain)
	line("")
	line("worker:")
	explain("  ", p.why)
	if p.Preset != nil {
		line("  preset: %s", p.Preset.Name)
	} else {
		line("  kind: %s", p.Kind)
	}
	d.writeCommand(line, explain)
	line("")
	d.writeCheck(line, explain)
	line("")
	line("# All else has its default: masterd check prints it.")
	return b.String()
}

func (d *Draft) writeListeners(line func(string, ...any), explain func(indent, text string)) {
	if len(d.Listeners) == 0 {
		explain("", "It has none, as consumers and jobs: no client could connect.")
		line("listeners: []")
		return
	}
	line("listeners:")
	for _, l := range d.Listeners {
		explain("  ", l.Why)
		line("  - name: %s", l.Name)
		line("    address: %s", Quote(l.Address))
	}
	if p := d.Program.Preset; p != nil && p.places && p.Hint != "" {
		explain("  ", "Needed: "+p.Hint+".")
	}
}

func (d *Draft) writeCommand(line func(string, ...any), explain func(indent, text string)) {
	p, dir := d.Program, filepath.Dir(d.File)
	listener := ""
	if len(d.Listeners) > 0 {
		listener = d.Listeners[0].Name
	}
	args := p.command(dir, listener)
	text := "The program and its arguments, as they are: there is no shell, so $NAME, ~ and * mean nothing."
	if strings.HasPrefix(args[0], "./") {
		text += " A path is relative to this file."
	}
	explain("  ", text)
	quoted := make([]string, len(args))
	for i, a := range args {
		quoted[i] = Quote(a)
		if !strings.HasPrefix(quoted[i], `"`) {
			quoted[i] = `"` + a + `"`
		}
	}
	line("  command: [%s]", strings.Join(quoted, ", "))
	if dir != p.Dir {
		explain("  ", "Where it is started. By default that is this file's directory.")
		line("  directory: %s", Quote(p.Dir))
	}
	if len(p.Env) > 0 {
		explain("  ", "Variables. A worker gets these and little else: nothing of your shell's. Secrets belong in "+
			"env_files.")
		line("  env:")
		for _, name := range p.variables() {
			line("    %s: %s", Quote(name), Quote(p.Env[name]))
		}
	}
	if p.Kind != config.KindSDK && (p.Preset != nil && p.Preset.PinPath || p.Preset == nil && p.interpreted()) {
		explain("  ", "It is not one file, so no copy of it can be kept for a rollback: deploy each version into "+
			"a directory of its own.")
		line("  pin: path")
	}
	switch {
	case d.User != "":
		explain("  ", "The user that workers run as; the master stays root.")
		line("  user: %s", Quote(d.User))
	case d.Root:
		explain("  ", "As it stands workers run as root. Name a user that has nothing else:")
		line("  # user: www-data")
	}
	for _, path := range d.Beside {
		if p.Preset != nil && p.Preset.Name == "nginx" && strings.HasSuffix(path, ".pid") {
			explain("  ", "Two versions run at once in a reload, and both would write "+path+": leave pid out of "+
				"its configuration, and write "+
				`"daemon off; pid `+strings.TrimSuffix(path, ".pid")+`-{worker}.pid;" after -g.`)
			continue
		}
		explain("  ", "It makes "+path+", and two versions run at once in a reload: give it a path with {worker} "+
			"in it, or leave it out.")
	}
}

func (d *Draft) writeCheck(line func(string, ...any), explain func(indent, text string)) {
	if len(d.Listeners) == 0 {
		explain("", "Without listeners there is nothing to ask: a worker that runs is well.")
		line("health: none")
		return
	}
	explain("", "What a new version must pass before it gets traffic, and what takes it back while it is "+
		"new. "+d.Check.Why)
	switch {
	case d.Check.Path == "":
		line("health: {tcp: {}}")
	case d.Check.Scheme == "https":
		line("health: {http: {scheme: https, path: %s}}", Quote(d.Check.Path))
	default:
		line("health: {http: {path: %s}}", Quote(d.Check.Path))
	}
}

// wrap breaks a text into lines of at most so many bytes, between words.
func wrap(text string, most int) (all []string) {
	l := ""
	for _, word := range strings.Fields(text) {
		if l != "" && len(l)+1+len(word) > most {
			all, l = append(all, l), ""
		}
		if l != "" {
			l += " "
		}
		l += word
	}
	return append(all, l)
}
