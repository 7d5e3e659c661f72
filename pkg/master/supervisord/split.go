package supervisord

import (
	"errors"
	"fmt"
	"regexp"
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
type variable struct {
	name, value string
	escaped     bool // there is a \" in it, which supervisord has no rule for
}

// note is what a person has to know about a variable with a \" in it.
func (v variable) note() string {
	return fmt.Sprintf(`%s: the \" in it is read as a quote; supervisord has no such rule and most of its versions refuse it: look whether it is right`, v.name)
}

// named is the beginning of a variable.
var named = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.]*\s*=`)

// variables takes KEY="value",KEY2=value apart. Values may be in quotes, which
// may hold commas. What cannot be understood is told, up to where the next
// variable begins.
func variables(text string) (list []variable, wrong []error) {
	for rest := strings.TrimSpace(text); rest != ""; {
		v, after, err := first(rest)
		if err != nil {
			wrong = append(wrong, err)
			rest = resume(rest)
			continue
		}
		list = append(list, v)
		rest = after
	}
	return list, wrong
}

// first takes one variable off the beginning of text, with the comma behind it.
func first(text string) (v variable, rest string, err error) {
	name, after, ok := strings.Cut(text, "=")
	v.name = strings.TrimSpace(name)
	if !ok || v.name == "" || strings.Contains(name, ",") {
		return v, "", fmt.Errorf("%q is not KEY=value", text)
	}
	after = strings.TrimLeft(after, " \t\r\n")
	if after == "" || after[0] != '"' && after[0] != '\'' {
		v.value, rest, _ = strings.Cut(after, ",")
		v.value = strings.TrimSpace(v.value)
		return v, strings.TrimSpace(rest), nil
	}
	quote, after := after[0], after[1:]
	for {
		end := strings.IndexByte(after, quote)
		if end < 0 {
			return v, "", fmt.Errorf("a quote after %s= is not closed", v.name)
		}
		rest = strings.TrimSpace(after[end+1:])
		if quote == '"' && end > 0 && after[end-1] == '\\' && !ends(rest) {
			v.value, v.escaped = v.value+after[:end-1]+`"`, true
			after = after[end+1:]
			continue
		}
		v.value += after[:end]
		break
	}
	if rest != "" && rest[0] != ',' {
		return v, "", fmt.Errorf("after the value of %s there is %q and no comma", v.name, rest)
	}
	return v, strings.TrimSpace(strings.TrimPrefix(rest, ",")), nil
}

// ends tells whether a value has ended before rest: a \" is its last character
// only if nothing or another variable follows.
func ends(rest string) bool {
	next, comma := strings.CutPrefix(rest, ",")
	next = strings.TrimSpace(next)
	return rest == "" || comma && (next == "" || named.MatchString(next))
}

// resume finds the next variable after one that cannot be understood.
func resume(text string) string {
	for {
		_, after, ok := strings.Cut(text, ",")
		if !ok {
			return ""
		}
		text = strings.TrimSpace(after)
		if named.MatchString(text) {
			return text
		}
	}
}
