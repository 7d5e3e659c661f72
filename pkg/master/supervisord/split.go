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
// may hold commas.
func variables(text string) (list []variable, err error) {
	for rest := strings.TrimSpace(text); rest != ""; {
		name, after, ok := strings.Cut(rest, "=")
		name = strings.TrimSpace(name)
		if !ok || name == "" {
			return nil, fmt.Errorf("%q is not KEY=value", rest)
		}
		after = strings.TrimLeft(after, " \t\r\n")
		var value string
		if after != "" && (after[0] == '"' || after[0] == '\'') {
			end := strings.IndexByte(after[1:], after[0])
			if end < 0 {
				return nil, fmt.Errorf("a quote after %s= is not closed", name)
			}
			value, rest = after[1:end+1], strings.TrimSpace(after[end+2:])
			if rest != "" && rest[0] != ',' {
				return nil, fmt.Errorf("after the value of %s there is %q and no comma", name, rest)
			}
			rest = strings.TrimPrefix(rest, ",")
		} else {
			value, rest, _ = strings.Cut(after, ",")
			value = strings.TrimSpace(value)
		}
		rest = strings.TrimSpace(rest)
		list = append(list, variable{name, value})
	}
	return list, nil
}
