package unitfile

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"
)

const (
	maxFile    = 1 << 20 // bytes of one file
	maxDropIns = 64      // files
)

// entry is one assignment, in the order of the files.
type entry struct{ section, key, value string }

// read reads a unit and what lies in its drop-in directory, by name. wrong is what systemd
// would log and pass over.
func read(path string) (entries []entry, wrong []string, err error) {
	dropIns, err := filepath.Glob(escapeGlob(path) + ".d/*.conf")
	if err != nil {
		return nil, nil, err
	}
	if len(dropIns) > maxDropIns {
		return nil, nil, fmt.Errorf("%s.d has more than %d files", path, maxDropIns)
	}
	for _, file := range append([]string{path}, dropIns...) {
		text, err := readFile(file)
		if err != nil {
			return nil, nil, err
		}
		more, bad, err := parse(text)
		if err != nil {
			return nil, nil, fmt.Errorf("%s%w", file, err)
		}
		entries, wrong = append(entries, more...), append(wrong, bad...)
	}
	return entries, wrong, nil
}

func escapeGlob(path string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(path)
}

func readFile(path string) (string, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return "", err
	case !info.Mode().IsRegular() || info.Size() > maxFile:
		return "", fmt.Errorf("%s: is not a regular file of at most %d KiB", path, maxFile>>10)
	}
	text, err := os.ReadFile(path)
	return string(text), err
}

// parse takes a file apart as systemd.syntax(7) says. A line that ends with a backslash goes on
// in the next one that is no comment.
func parse(text string) (entries []entry, wrong []string, err error) {
	section, continued, n, first := "", "", 0, 0
	take := func(line string) error {
		line = strings.TrimSpace(line)
		switch {
		case line == "":
			return nil
		case line[0] == '[':
			if line[len(line)-1] != ']' {
				return fmt.Errorf(":%d: the section's name is not closed by a bracket", first)
			}
			section = line[1 : len(line)-1]
			return nil
		}
		key, value, ok := strings.Cut(line, "=")
		switch {
		case !ok:
			wrong = append(wrong, fmt.Sprintf("line %d has no \"=\", so systemd passes over it", first))
		case section == "":
			wrong = append(wrong, fmt.Sprintf("line %d stands before the first [Section], so systemd passes over it", first))
		case !utf8.ValidString(line) || strings.ContainsRune(line, 0):
			wrong = append(wrong, fmt.Sprintf("line %d is not text in UTF-8, so systemd passes over it", first))
		default:
			entries = append(entries, entry{section, strings.TrimSpace(key), strings.TrimSpace(value)})
		}
		return nil
	}
	for line := range strings.Lines(strings.TrimPrefix(text, "\ufeff")) {
		n++
		line = strings.TrimRight(line, "\r\n")
		if c := strings.TrimLeft(line, " \t"); c != "" && (c[0] == '#' || c[0] == ';') {
			continue
		}
		if continued == "" {
			first = n
		}
		continued += line
		if backslashes := len(line) - len(strings.TrimRight(line, `\`)); backslashes%2 == 1 {
			continued = continued[:len(continued)-1] + " "
			continue
		}
		if err := take(continued); err != nil {
			return nil, nil, err
		}
		continued = ""
	}
	if err := take(continued); err != nil {
		return nil, nil, err
	}
	return entries, wrong, nil
}
