package supervisord

import (
	"errors"
	"fmt"
	"strings"
)

// split takes a command apart as Python's shlex.split does, which supervisord
// uses: quotes and backslashes as in a shell, and nothing else of it.
func split(command string) (args []string, err error) {
	var arg strings.Builder
	begun := false
	var quote rune // zero: in none
	escaped := false
	for _, r := range command {
		switch {
		case escaped:
			// In double quotes a backslash is only for these.
			if quote == '"' && r != '"' && r != '\\' {
				arg.WriteByte('\\')
			}
			arg.WriteRune(r)
			escaped = false
		case r == '\\' && quote != '\'':
			escaped, begun = true, true
		case quote != 0:
			if r == quote {
				quote = 0
			} else {
				arg.WriteRune(r)
			}
		case r == '"' || r == '\'':
			quote, begun = r, true
		case strings.ContainsRune(" \t\r\n", r):
			if begun {
				args = append(args, arg.String())
				arg.Reset()
				begun = false
			}
		default:
			begun = true
			arg.WriteRune(r)
		}
	}
	switch {
	case quote != 0:
		return nil, errors.New("a quote is not closed")
	case escaped:
		return nil, errors.New(`it ends with a "\"`)
	case begun:
		args = append(args, arg.String())
	}
	if len(args) == 0 {
		return nil, errors.New("it is empty")
	}
	return args, nil
}

// variable is one of an environment= key.
type variable struct{ name, value string }

// variables takes KEY="value",KEY2=value apart. Values may be in quotes, which
// may hold commas. The error is about the first that cannot be understood, as
// supervisord has it; list is what comes before it.
func variables(text string) (list []variable, err error) {
	for rest := strings.TrimSpace(text); rest != ""; {
		name, after, ok := strings.Cut(rest, "=")
		v := variable{name: strings.TrimSpace(name)}
		if !ok || v.name == "" || strings.Contains(name, ",") {
			part, _, _ := strings.Cut(rest, ",")
			return list, fmt.Errorf("%q is not KEY=value", part)
		}
		after = strings.TrimLeft(after, " \t\r\n")
		if after == "" || after[0] != '"' && after[0] != '\'' {
			v.value, rest, _ = strings.Cut(after, ",")
			v.value = strings.TrimSpace(v.value)
		} else {
			if v.value, rest, ok = strings.Cut(after[1:], after[:1]); !ok {
				return list, fmt.Errorf("a quote after %s= is not closed", v.name)
			}
			if rest = strings.TrimSpace(rest); rest != "" && rest[0] != ',' {
				return list, fmt.Errorf("after the value of %s there is something and no comma", v.name)
			}
			rest = strings.TrimPrefix(rest, ",")
		}
		rest = strings.TrimSpace(rest)
		list = append(list, v)
	}
	return list, nil
}
