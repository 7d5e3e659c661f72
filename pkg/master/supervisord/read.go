package supervisord

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"gopkg.in/ini.v1"
)

const (
	maxFile     = 1 << 20 // bytes of one file
	maxIncluded = 1024    // files
	maxPrograms = 1024
)

// section is one of the files' sections, with the keys that were given.
type section struct {
	name string // as in the brackets: "program:mail"
	keys []string
	text map[string]string // by key, raw but for %(here)s
}

func (s *section) set(key, value string) {
	if _, again := s.text[key]; !again {
		s.keys = append(s.keys, key)
	}
	s.text[key] = value
}

// document is the file and those that it includes, as supervisord sees them: a
// section that comes again adds to what was there, a key that comes again wins.
type document struct {
	path     string
	sections []*section
}

// read reads a file and what it includes. Files that are included include none.
func read(path string) (*document, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	d := &document{path: abs}
	if err := d.add(abs); err != nil {
		return nil, err
	}
	include := d.find("include")
	if include == nil {
		return d, nil
	}
	here := filepath.Dir(abs)
	pattern, err := expansions{"host_node_name": hostname()}.expand(include.text["files"])
	if err != nil {
		return nil, fmt.Errorf("%s: [include] files: %w", abs, err)
	}
	n := 0
	for _, glob := range strings.Fields(pattern) {
		if !filepath.IsAbs(glob) {
			glob = filepath.Join(here, glob)
		}
		files, err := filepath.Glob(glob)
		if err != nil {
			return nil, fmt.Errorf("%s: [include] files: %s: %w", abs, glob, err)
		}
		for _, f := range files {
			if n++; n > maxIncluded {
				return nil, fmt.Errorf("%s: [include] files: there are more than %d", abs, maxIncluded)
			}
			if err := d.add(f); err != nil {
				return nil, err
			}
		}
	}
	return d, nil
}

// add adds one file.
func (d *document) add(path string) error {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return err
	case !info.Mode().IsRegular() || info.Size() > maxFile:
		return fmt.Errorf("%s: is not a regular file of at most %d KiB", path, maxFile>>10)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	// As Python's RawConfigParser reads it: no quotes, no backslashes, lines that
	// are indented go on, names in lower case.
	file, err := ini.LoadSources(ini.LoadOptions{
		InsensitiveKeys: true, IgnoreContinuation: true, IgnoreInlineComment: true, AllowPythonMultilineValues: true,
		PreserveSurroundedQuote: true, KeyValueDelimiters: "=:", ChildSectionDelimiter: "\x00", SkipUnrecognizableLines: false,
	}, data)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	here := filepath.Dir(path)
	for _, s := range file.Sections() {
		if s.Name() == ini.DefaultSection {
			if len(s.Keys()) > 0 {
				return fmt.Errorf("%s: %q stands before the first [section]", path, s.Keys()[0].Name())
			}
			continue
		}
		to := d.find(s.Name())
		if to == nil {
			to = &section{name: s.Name(), text: map[string]string{}}
			d.sections = append(d.sections, to)
		}
		for _, k := range s.Keys() {
			to.set(k.Name(), strings.ReplaceAll(uncomment(k.Value()), "%(here)s", here))
		}
	}
	return nil
}

func (d *document) find(name string) *section {
	for _, s := range d.sections {
		if s.name == name {
			return s
		}
	}
	return nil
}

// uncomment cuts off what follows a ";" or "#" after a space, in each line.
func uncomment(value string) string {
	lines := strings.Split(value, "\n")
	for i, line := range lines {
		for j := 1; j < len(line); j++ {
			if (line[j] == ';' || line[j] == '#') && (line[j-1] == ' ' || line[j-1] == '\t') {
				line = line[:j]
				break
			}
		}
		lines[i] = strings.TrimSpace(line)
	}
	return strings.TrimSpace(strings.Join(lines, "\n"))
}

func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return "localhost"
	}
	return name
}

// errNone: a file without a program.
var errNone = errors.New("there is no [program:NAME] in it")
