package unitfile

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// command takes the last ExecStart= over. Its variables are those of Environment=.
func (u *Unit) command(entries []entry, specs specifiers) {
	var all []string
	for _, e := range entries {
		switch {
		case e.section != "Service" || e.key != "ExecStart":
		case e.value == "":
			all = nil
		default:
			all = append(all, e.value)
		}
	}
	if len(all) == 0 {
		return
	}
	if len(all) > 1 {
		u.lost("ExecStart", "there are %d, and the first is what is run; a worker is one program", len(all))
	}
	args, err := words(all[0])
	for i := 0; i < len(args) && err == nil; i++ {
		args[i], err = specs.expand(args[i])
	}
	if err == nil {
		args, err = u.program(args)
	}
	if err != nil {
		u.lost("ExecStart", "%v", err)
		return
	}
	u.worker.command = args
}

// program looks at what is before the program's path, and puts variables in.
func (u *Unit) program(args []string) ([]string, error) {
	if len(args) == 0 {
		return nil, errors.New("it is empty")
	}
	plain := strings.TrimLeft(args[0], "@-:+!|")
	prefix := args[0][:len(args[0])-len(plain)]
	args[0] = plain
	for _, p := range [][2]string{
		{"+", `"+" has it run as root: leave out worker.user`},
		{"!", `"!" has it run as root and become the user by itself: leave out worker.user`},
		{"|", `"|" has a shell run it: write ["/bin/sh", "-c", …]`},
	} {
		if strings.Contains(prefix, p[0]) {
			u.lost("ExecStart", "%s", p[1])
		}
	}
	if strings.Contains(prefix, "@") {
		if len(args) < 2 {
			return nil, errors.New(`after "@" there is no name`)
		}
		u.lost("ExecStart", "\"@\" gives it the name %s; masterd gives it its path", short(args[1]))
		args = slices.Delete(args, 1, 2)
	}
	if args[0] == "" || strings.Contains(args[0], "/") && !filepath.IsAbs(args[0]) {
		return nil, fmt.Errorf("%q is no path of a program", args[0])
	}
	if i := slices.Index(args, ";"); i >= 0 {
		u.lost("ExecStart", "what comes after \";\" is another command; a worker is one program")
		args = args[:max(i, 1)]
	}
	var out []string
	for i, arg := range args {
		switch {
		case arg == `\;`:
			out = append(out, ";")
		case i == 0 || strings.Contains(prefix, ":"):
			out = append(out, arg)
		case len(arg) > 1 && arg[0] == '$' && arg[1] != '{' && arg[1] != '$': // it is several words
			value, ok := u.worker.env[arg[1:]]
			if !ok {
				u.unset(arg)
				out = append(out, arg)
				continue
			}
			more, err := words(value)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", arg, err)
			}
			out = append(out, more...)
		default:
			out = append(out, u.variables(arg))
		}
	}
	return out, nil
}

// variables puts in what ${NAME} stands for, and makes $$ one.
func (u *Unit) variables(arg string) string {
	var b strings.Builder
	for rest := arg; rest != ""; {
		before, after, ok := strings.Cut(rest, "$")
		b.WriteString(before)
		if !ok {
			break
		}
		if name, tail, closed := strings.Cut(strings.TrimPrefix(after, "{"), "}"); strings.HasPrefix(after, "{") && closed {
			value, known := u.worker.env[name]
			if !known {
				u.unset("${" + name + "}")
				value = "${" + name + "}"
			}
			b.WriteString(value)
			rest = tail
			continue
		}
		b.WriteByte('$')
		rest = strings.TrimPrefix(after, "$")
	}
	return b.String()
}

func (u *Unit) unset(name string) {
	u.lost("ExecStart", "%s is not in Environment=, and masterd puts no variables in; write its value", short(name))
}
