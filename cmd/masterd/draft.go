package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/draft"
	"github.com/masterd/masterd/pkg/master/trust"
)

const (
	// guess is where a program listens of which nothing is known.
	guess = "127.0.0.1:8080"
	// shownOutput is how many lines are shown of a program that was started once.
	shownOutput = 10
)

func (a *app) initCommand() *cobra.Command {
	var o drafting
	cmd := &cobra.Command{
		Use:     "init [flags] [-- COMMAND ...]",
		GroupID: groupDaemon,
		Short:   "Write a first configuration for a program",
		Long: `Find out what a program is, and write a configuration for it, masterd.yaml in
this directory or what --out names. A file that is there is not touched. Each line
has a comment that says why it is so; the last lines say what to type next.

What the program is its file, its name and its arguments say: built on
masterd's worker package, a server that there is a preset for, or neither. Where it
listens its arguments, variables before it (PORT=3000 node server.js) or --listen
say. On a terminal it asks at most three questions, otherwise none. The first is
whether it may start the program once, for at most 15s, to see what it binds and
what its health path answers. It never does so unasked, since the start of a
program may change things, such as migrate a database, and never as root.

Without COMMAND it takes what this directory seems to run: a program that was
built from the go.mod here, the start of package.json, the web of a Procfile. If
there is none it says what it would need.`,
		Args: afterDash,
		RunE: func(cmd *cobra.Command, args []string) error { return a.init(cmd.Context(), args, o) },
	}
	cmd.Flags().StringVar(&o.file, "out", "masterd.yaml", "write to `FILE`")
	cmd.MarkFlagFilename("out", "yaml", "yml")
	listenFlag(cmd, &o.listen)
	return cmd
}

func listenFlag(cmd *cobra.Command, listen *string) {
	cmd.Flags().StringVar(listen, "listen", "", "the program listens on `ADDRESS`, such as :8080 or 127.0.0.1:3000")
}

// afterDash: a command has flags of its own, so it comes after "--".
func afterDash(cmd *cobra.Command, args []string) error {
	if len(args) > 0 && cmd.ArgsLenAtDash() != 0 {
		return fmt.Errorf("write -- before the command: %s -- %s", cmd.CommandPath(), strings.Join(args, " "))
	}
	return nil
}

// drafting is how a configuration is made.
type drafting struct {
	file   string // where it is to lie
	listen string // as --listen has it

	first   bool            // for a first look: nothing is asked that can do without
	taken   map[string]bool // names of services that there are
	runtime string          // directories of its own; empty: the usual ones
	state   string
}

// init writes a configuration.
func (a *app) init(ctx context.Context, command []string, o drafting) error {
	file, err := filepath.Abs(o.file)
	if err != nil {
		return exitf(exitUsage, "--out: %v", err)
	}
	shown := o.file
	o.file, o.taken = file, map[string]bool{}
	if _, err := os.Lstat(file); err == nil {
		return exitf(exitFailed, "%s is there already, and stays as it is; name another file with --out", shown)
	}
	if command, err = a.commandHere(command); err != nil {
		return err
	}
	d, err := a.draft(ctx, command, o)
	if err != nil {
		return err
	}
	text := d.Text()
	cfg, err := config.Parse(file, []byte(text), a.environ(), config.SystemHost(a.environ()))
	if err != nil {
		return exitf(exitFailed, "no configuration could be made of this; nothing was written: %v", err)
	}
	if err := writeNew(file, text); err != nil {
		return exitf(exitFailed, "writing the configuration: %v", err)
	}
	f := a.try(ctx, cfg)
	for _, line := range f.wrong {
		fmt.Fprintf(a.err, "masterd: to be mended: %s\n", cleanLines(line))
	}
	named := shellWord(shown)
	fmt.Fprintf(a.out, "%s is written: look into it, each line says why it is so.\n\nType next:\n", clean(shown))
	next := [][2]string{{"masterd check --config " + named, "would it start, and what is it with all defaults?"}}
	if dir, base := filepath.Split(file); a.uid == 0 && filepath.Clean(dir) == filepath.Dir(a.defaultFile) {
		unit := "masterd@" + strings.TrimSuffix(base, ".yaml")
		if file == a.defaultFile {
			unit = "masterd"
		}
		next = append(next, [2]string{"systemctl enable --now " + unit, "where the units are installed"})
	}
	next = append(next, [2]string{"masterd run --config " + named, servesAt(d)}, [2]string{"masterd reload --config " + named, "in another terminal: the next version, beside this one"})
	for _, n := range next {
		fmt.Fprintf(a.out, "  %-*s # %s\n", len("masterd reload --config ")+len(named), clean(n[0]), n[1])
	}
	return nil
}

// commandHere is what was typed, or what the directory runs.
func (a *app) commandHere(command []string) ([]string, error) {
	if len(command) > 0 {
		return command, nil
	}
	dir, err := os.Getwd()
	if err != nil {
		return nil, exitf(exitFailed, "finding this directory: %v", err)
	}
	all, missing := draft.Here(dir)
	switch {
	case len(all) == 1:
		fmt.Fprintf(a.err, "masterd: taking %s, %s\n", clean(strings.Join(all[0].Command, " ")), all[0].By)
		return all[0].Command, nil
	case len(all) > 1:
		var b strings.Builder
		for _, f := range all {
			fmt.Fprintf(&b, "\n  masterd init -- %s   # %s", strings.Join(f.Command, " "), f.By)
		}
		return nil, exitf(exitUsage, "this directory runs several things; type one of%s", b.String())
	case len(missing) > 0:
		return nil, exitf(exitUsage, "what this directory runs is not clear: %s", strings.Join(missing, "; "))
	}
	return nil, exitf(exitUsage, "name the program, as you would start it: masterd init -- ./shop --mode=prod (this directory has no go.mod, package.json or Procfile that says)")
}

// draft finds out what it can about a program, and asks for the rest.
func (a *app) draft(ctx context.Context, command []string, o drafting) (*draft.Draft, error) {
	dir, err := os.Getwd()
	if err != nil {
		return nil, exitf(exitFailed, "finding this directory: %v", err)
	}
	p, err := draft.Look(command, draft.Surroundings{Dir: dir, Path: a.env("PATH"), Port: a.env("PORT")})
	if err != nil {
		return nil, exitf(exitUsage, "%v", err)
	}
	for _, n := range p.Notes {
		fmt.Fprintf(a.err, "masterd: %s\n", clean(n))
	}
	d := &draft.Draft{
		Program: p, Service: draft.ServiceName(p.Name(), o.taken), File: o.file, Root: a.uid == 0, Runtime: o.runtime, State: o.state,
		Check: draft.Check{Why: "It was not asked what it answers, so that it takes a connection must do. If a path of its says whether it is well, write http: {path: /healthz} in the place of tcp."},
	}
	lines := bufio.NewReader(a.in)
	if a.uid == 0 {
		if err := a.draftUser(lines, d, o); err != nil {
			return nil, err
		}
	} else if a.asks() && o.listen == "" && !(o.first && p.KnowsAddress()) {
		if err := a.draftTrial(ctx, lines, d); err != nil {
			return nil, err
		}
	}
	if err := a.draftListener(lines, d, o); err != nil {
		return nil, err
	}
	if a.asks() && !o.first && len(d.Listeners) > 0 && d.Check.Path == "" {
		path := a.question(lines, "Which path answers 200 when it is well, such as /healthz? Empty: it need only take a connection", "")
		if strings.HasPrefix(path, "/") {
			d.Check = draft.Check{Path: path, Why: "It should fail while the program cannot serve, and not because of what others do."}
		}
	}
	return d, nil
}

// draftUser finds whom root's workers run as.
func (a *app) draftUser(lines *bufio.Reader, d *draft.Draft, o drafting) error {
	likely := a.env("SUDO_USER")
	if info, err := os.Stat(d.Program.Path); likely == "" && err == nil && trust.Owner(info) != 0 {
		if u, err := user.LookupId(strconv.Itoa(trust.Owner(info))); err == nil {
			likely = u.Username
		}
	}
	name := likely
	if a.asks() && !o.first {
		name = a.question(lines, "As which user do workers run? The master stays root", cmp.Or(likely, "root"))
	}
	if name == "" || name == "root" {
		return nil
	}
	if _, err := user.Lookup(name); err != nil {
		return exitf(exitUsage, "there is no user %q; nothing was written. Make one (useradd --system %s), or name another", name, name)
	}
	d.User = name
	return nil
}

// draftTrial starts the program once, if somebody says so.
func (a *app) draftTrial(ctx context.Context, lines *bufio.Reader, d *draft.Draft) error {
	yes := a.question(lines, fmt.Sprintf("Start it once, for at most %d s, to see where it listens and what it answers? Its start may change things, such as migrate a database", int(draft.TrialTime.Seconds())), "no")
	if !strings.HasPrefix(strings.ToLower(yes), "y") {
		return nil
	}
	ctx, stop := a.interrupt(ctx) // it is in a session of its own, and ended here
	defer stop()
	t, err := d.Program.Once(ctx, nil)
	switch {
	case ctx.Err() != nil:
		return exitf(exitFailed, "interrupted; the program was ended, and nothing was written")
	case errors.Is(err, draft.ErrCalls):
		fmt.Fprintf(a.err, "masterd: %s\n", clean(err.Error()))
		return nil
	case err != nil:
		return exitf(exitFailed, "the program could not be started; nothing was written: %v", err)
	case t.Background:
		w := config.Worker{Command: []string{d.Program.Path}}
		if d.Program.Preset != nil {
			w.Preset = d.Program.Preset.Name
		}
		return exitf(exitUsage, "it went into the background, where masterd cannot follow it; it was ended, and nothing was written. Have it stay: %s", cmp.Or(w.Foreground(), "most programs have a flag such as --foreground or --no-daemon"))
	}
	a.tellTrial(d, t)
	d.Take(t)
	return nil
}

func (a *app) tellTrial(d *draft.Draft, t *draft.Trial) {
	for _, b := range t.Binds {
		text := "it listens on " + b.Address()
		switch answer := b.Answer; {
		case !answer.Taken:
			text = "it wanted " + b.Address() + ", and took no connection there"
		case answer.Every:
			text += ", and answers every path with 200"
		case answer.Path != "":
			text += ", and answers GET " + answer.Path + " with 200"
		case answer.Scheme != "":
			text += ", speaks HTTP, and has no path that is known for its health"
		}
		fmt.Fprintf(a.err, "masterd: %s\n", clean(text))
	}
	if len(t.Binds) == 0 {
		fmt.Fprintf(a.err, "masterd: it has bound no TCP address within %s\n", draft.TrialTime)
	}
	for _, path := range t.Beside {
		fmt.Fprintf(a.err, "masterd: it makes %s, of which two versions at once would need two\n", clean(path))
	}
	if t.Ended != "" {
		fmt.Fprintf(a.err, "masterd: it ended by itself (%s); its last lines:\n%s\n", t.Ended, cleanLines(t.Last(shownOutput)))
	}
}

// draftListener says where it listens, if no trial has.
func (a *app) draftListener(lines *bufio.Reader, d *draft.Draft, o drafting) error {
	p := d.Program
	switch {
	case o.listen != "":
		address, err := listenAddress(o.listen)
		if err != nil {
			return exitf(exitUsage, "--listen: %v", err)
		}
		d.At(address, "As --listen says.")
	case len(d.Listeners) > 0:
	case p.Sign != "" && p.Address != "":
		d.At(draft.Listener(p.Address), "As "+p.Sign+" says.")
	default:
		likely := cmp.Or(p.Address, guess)
		why := "Nothing said where it listens, so this is a guess: it must be what the program binds."
		if p.KnowsAddress() {
			why = "Any address will do: the program is given the socket."
		}
		if a.asks() && !o.first {
			likely = a.question(lines, "On which address do clients reach it? \"none\": on none, as consumers and jobs", likely)
			why = "As you said."
		}
		if likely == "none" {
			return nil
		}
		address, err := listenAddress(likely)
		if err != nil {
			return exitf(exitUsage, "nothing was written: %v", err)
		}
		d.At(address, why)
	}
	return nil
}

// asks tells whether there is somebody to answer.
func (a *app) asks() bool { return a.interactive() }

// question asks one and returns the answer; likely is that of an empty line.
func (a *app) question(lines *bufio.Reader, text, likely string) string {
	fmt.Fprintf(a.err, "%s", text)
	if likely != "" {
		fmt.Fprintf(a.err, " [%s]", clean(likely))
	}
	fmt.Fprint(a.err, ": ")
	answer, _ := lines.ReadString('\n')
	return cmp.Or(strings.TrimSpace(answer), likely)
}

// servesAt says what a service would serve.
func servesAt(d *draft.Draft) string {
	if len(d.Listeners) == 0 {
		return "runs it in the foreground"
	}
	return "serves " + urlOf(d.Listeners[0].Address) + " in the foreground; Ctrl-C stops it"
}
