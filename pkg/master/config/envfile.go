package config

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"unicode/utf8"

	"github.com/masterd/masterd/pkg/master/trust"
)

// maxValue is the longest value of an environment variable, in bytes; the
// kernel takes 128 KiB for name and value.
const maxValue = 64 << 10

// LoadEnvFile reads a file of environment variables for a worker and returns
// them as NAME=VALUE, in order of first appearance; the last of two settings
// of one name wins. A line is NAME=VALUE, perhaps after "export"; empty lines
// and those that begin with # are passed over. A value may be in single quotes
// (taken as it is) or double quotes (with \n, \t, \", \\ and \$). Nothing is
// expanded. At most maxFile bytes and maxVariables entries are read. The error
// names the line but never shows a value. What somebody else could have put there is not
// read: it may be another service's secret.
func LoadEnvFile(path string) ([]string, error) {
	return loadEnvFile(path, trust.Own().Open)
}

// LoadEnvFileOfAnybody is LoadEnvFile, wherever the file lies: for what was started with
// it by a masterd that did not look.
func LoadEnvFileOfAnybody(path string) ([]string, error) {
	return loadEnvFile(path, func(path string) (*os.File, error) {
		return os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a FIFO is empty
	})
}

func loadEnvFile(path string, open func(string) (*os.File, error)) ([]string, error) {
	f, err := open(path)
	var data []byte
	if err == nil {
		defer f.Close()
		data, err = readAll(f)
	}
	if err != nil {
		return nil, fmt.Errorf("environment file %s: %w", path, fileCause(err))
	}
	vars, err := parseEnvFile(data)
	if err != nil {
		return nil, fmt.Errorf("environment file %s%w", path, err)
	}
	return vars, nil
}

// fileCause is an error without the path that its sentence has already.
func fileCause(err error) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

func parseEnvFile(data []byte) ([]string, error) {
	var vars []string
	index := map[string]int{}
	n := 0
	for line := range strings.Lines(string(data)) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		name, value, err := parseEnvLine(line)
		if err == nil {
			err = checkVariable(name, value)
		}
		if err != nil {
			return nil, fmt.Errorf(":%d: %w", n, err)
		}
		i, again := index[name]
		switch {
		case again:
			vars[i] = name + "=" + value
		case len(vars) == maxVariables:
			return nil, fmt.Errorf(":%d: more than %d variables", n, maxVariables)
		default:
			index[name] = len(vars)
			vars = append(vars, name+"="+value)
		}
	}
	return vars, nil
}

func parseEnvLine(line string) (name, value string, err error) {
	if rest, ok := strings.CutPrefix(line, "export"); ok && rest != "" && (rest[0] == ' ' || rest[0] == '\t') {
		line = strings.TrimSpace(rest)
	}
	name, value, ok := strings.Cut(line, "=")
	if !ok {
		return "", "", errors.New("not NAME=VALUE: there is no =")
	}
	if name != strings.TrimSpace(name) {
		return "", "", errors.New("there is a space before the =")
	}
	value, err = unquote(strings.TrimSpace(value))
	return name, value, err
}

// unquote reads a value. What another program would read in another way (a
// comment at the end of a line, text after a quote) is refused.
func unquote(s string) (string, error) {
	if s == "" {
		return "", nil
	}
	switch s[0] {
	case '\'':
		end := strings.IndexByte(s[1:], '\'')
		if end < 0 {
			return "", errors.New("the single quote is not closed on the same line")
		}
		return s[1 : 1+end], afterQuote(s[2+end:])
	case '"':
		var b strings.Builder
		for i := 1; i < len(s); i++ {
			switch c := s[i]; {
			case c == '"':
				return b.String(), afterQuote(s[i+1:])
			case c == '\\' && i+1 < len(s):
				i++
				switch s[i] {
				case 'n':
					b.WriteByte('\n')
				case 't':
					b.WriteByte('\t')
				case '"', '\\', '$', '`':
					b.WriteByte(s[i])
				default:
					return "", fmt.Errorf(`\%c has no meaning in double quotes; there are \n, \t, \", \\ and \$`, s[i])
				}
			default:
				b.WriteByte(c)
			}
		}
		return "", errors.New("the double quote is not closed on the same line")
	}
	if strings.Contains(s, " #") || strings.Contains(s, "\t#") {
		return "", errors.New("is the # a comment or part of the value? put comments on lines of their own, or the value in quotes")
	}
	return s, nil
}

func afterQuote(rest string) error {
	if rest = strings.TrimSpace(rest); rest != "" && rest[0] != '#' {
		return errors.New("there is more after the closing quote")
	}
	return nil
}

// checkVariable refuses names that are none, those that masterd or the service
// manager set, and values that no program could be given. Values are not shown.
func checkVariable(name, value string) error {
	switch {
	case !regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`).MatchString(name):
		return fmt.Errorf("%s is not the name of a variable", short(name))
	case strings.HasPrefix(name, envPrefix) || slices.Contains(ManagerVariables(), name):
		return fmt.Errorf("%s is set by masterd itself, or kept from workers", name)
	case len(value) > maxValue:
		return fmt.Errorf("the value of %s has %d bytes, at most %d are allowed", name, len(value), maxValue)
	case strings.ContainsRune(value, 0):
		return fmt.Errorf("the value of %s has a NUL character", name)
	case !utf8.ValidString(value):
		return fmt.Errorf("the value of %s is not valid UTF-8", name)
	}
	return nil
}

// ManagerVariables are what a service manager tells its main process alone. A worker
// that had them would be somebody else to the manager, and could stop the unit with
// one message.
func ManagerVariables() []string {
	return []string{
		"LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "LISTEN_PIDFDID", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID",
		"FDSTORE", "MAINPID", "INVOCATION_ID", "JOURNAL_STREAM", "SYSTEMD_EXEC_PID",
	}
}
