package config

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/viper"
	"go.yaml.in/yaml/v3"
)

// builder makes a Config of what was read, and notes all that is wrong.
type builder struct {
	schema schema
	host   Host
	doc    *document
	over   environment
	values *viper.Viper
	dir    string            // of the file
	filled map[string]string // where values that were not given came from, other than defaults
	list   []Problem
}

// problems are those of the document and those found here.
func (b *builder) problems() *Problems {
	return &Problems{List: slices.Concat(b.doc.list, b.list)}
}

// add notes that a key's value is wrong, where it was given.
func (b *builder) add(path, text string) {
	if o, ok := b.over.values[path]; ok {
		b.list = append(b.list, Problem{File: "environment", Key: o.name, Text: path + ": " + text})
		return
	}
	b.list = append(b.list, Problem{File: b.doc.file, Line: b.doc.line(path), Key: path, Text: text})
}

// given tells whether a value comes from the file or the environment.
func (b *builder) given(path string) bool {
	_, over := b.over.values[path]
	return over || b.doc.nodes[path] != nil
}

// build reads each key by itself, then checks how they go together. A key whose
// value is wrong keeps its default, so that one mistake is told once.
func (b *builder) build() *Config {
	c := &Config{File: b.doc.file, Listeners: make([]Listener, b.doc.items["listeners"])}
	for _, l := range shortLists() {
		l.set(c, b.doc.items[l.path])
	}
	b.chooseCheck(c)
	for _, f := range b.schema.fields(c) {
		b.set(f)
	}
	b.service(c)
	b.listeners(c)
	b.fill(c)
	b.worker(c)
	b.otherKinds(c)
	b.health(c)
	b.canary(c)
	b.measures(c.Rollout.Analysis.Measures)
	b.rest(c)
	return c
}

// set gives a field the value of its key.
func (b *builder) set(f field) {
	k, path := f.key, f.path
	switch p := f.ptr.(type) {
	case *[]string:
		*p = b.argumentList(path, k)
	case *[][]string:
		*p = b.hooks(path)
	case *map[string]string:
		*p = b.variables(path)
	default:
		text := k.Default
		if k.merged() {
			text = b.values.GetString(path)
		} else if n := b.doc.nodes[path]; n != nil {
			text = n.Value
		} else if k.Default == "" && (k.Type == Duration || k.Type == Percent) {
			return // zero has a meaning, and no spelling
		}
		if err := assign(f, text); err != nil {
			b.add(path, instructed(k, text, err).Error())
			_ = assign(f, k.Default) // a default is never wrong: a test sees to it
		}
	}
}

// assign reads a scalar as its type says and puts it into the field.
func assign(f field, text string) error {
	k := f.key
	switch k.Type {
	case Text, Path:
		if err := checkText(text); err != nil {
			return err
		}
		if k.Path == "worker.stop_signal" || k.Path == "drain.signal" {
			text = strings.TrimPrefix(text, "SIG")
		}
		if len(k.Allowed) > 0 && !slices.Contains(k.Allowed, text) {
			return notAllowed(k, text)
		}
		if p, ok := f.ptr.(*string); ok {
			*p = text
		}
	case Integer:
		n, err := bounded(k, text, parseInteger)
		if err != nil {
			return err
		}
		assignNumber(f.ptr, uint64(n))
	case Boolean:
		v, err := parseBoolean(text)
		if err != nil {
			return err
		}
		*f.ptr.(*bool) = v
	case Duration:
		v, err := bounded(k, text, parseDuration)
		if err != nil {
			return err
		}
		*f.ptr.(*time.Duration) = v
	case Size, Rate:
		parse := parseSize
		if k.Type == Rate {
			parse = parseRate
		}
		v, err := bounded(k, text, parse)
		if err != nil {
			return err
		}
		assignNumber(f.ptr, v)
	case Percent:
		v, err := bounded(k, text, parsePercent)
		if err != nil {
			return err
		}
		*f.ptr.(*uint32) = v
	case Decimal:
		v, err := bounded(k, text, parseDecimal)
		if err != nil {
			return err
		}
		*f.ptr.(*float64) = v
	case Statuses:
		v, err := parseStatuses(text)
		if err != nil {
			return err
		}
		*f.ptr.(*[]StatusRange) = v
	}
	return nil
}

// assignNumber stores a number that the key's bounds allow.
func assignNumber(ptr any, n uint64) {
	switch p := ptr.(type) {
	case *int:
		*p = int(n)
	case *uint64:
		*p = n
	}
}

func notAllowed(k Key, text string) error {
	if len(k.Allowed) == 1 {
		return fmt.Errorf("%s is not available in this version of masterd, only %s is", short(text), k.Allowed[0])
	}
	if k.Path == "worker.kind" {
		for _, preset := range []string{text, strings.TrimSuffix(text, "js")} {
			if kind := PresetKind(preset); kind != "" {
				return fmt.Errorf("%s is a preset: leave kind out, and write preset: %s", short(text), preset)
			}
		}
	}
	if word := meantWord(k, text); word != "" {
		return fmt.Errorf("%s is not one of %s; write %s", short(text), strings.Join(k.Allowed, ", "), word)
	}
	if near := nearest(text, k.Allowed); near != "" {
		return fmt.Errorf("%s is not one of %s; did you mean %s?", short(text), strings.Join(k.Allowed, ", "), near)
	}
	return fmt.Errorf("%s is not one of %s", short(text), strings.Join(k.Allowed, ", "))
}

// argumentList reads a list of words: a command or paths.
func (b *builder) argumentList(path string, k Key) []string {
	n := b.doc.nodes[path]
	if n == nil {
		return nil
	}
	if n.Kind != yaml.SequenceNode {
		example := `["bin/shop", "--mode=prod"]`
		switch {
		case k.Type == Paths:
			example = `["secrets.env"]`
		case k.Example != "":
			example = k.Example
		}
		if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!str" && n.Value != "" {
			b.add(path, textNotList(k, n.Value, example))
			return nil
		}
		b.add(path, fmt.Sprintf("is %s, not a list; write %s", form(n), example))
		return nil
	}
	words := b.doc.words(n, path, b.doc.line(path), maxItems)
	if k.Type == Arguments && len(n.Content) > 0 && len(words) > 0 {
		b.checkArguments(path, words)
	}
	return words
}

// textNotList says how a text would be written as the list that its key takes.
func textNotList(k Key, text, example string) string {
	list, shell := asList([]string{text}), false
	if k.Type == Arguments {
		list, shell = asArguments(text)
	}
	switch {
	case list == "" || len(text) > maxRewritten:
		return "is text, not a list; write " + example
	case shell:
		return fmt.Sprintf("is text, not a list, and has what only a shell understands; write %s: %s, or set variables in worker.env",
			k.Name(), list)
	}
	return fmt.Sprintf("is text, not a list; write %s: %s", k.Name(), list)
}

// checkArguments refuses what the kernel would.
func (b *builder) checkArguments(path string, words []string) {
	if words[0] == "" {
		b.add(path, "the program's name is empty")
	}
	for i, w := range words {
		if strings.ContainsRune(w, 0) {
			b.add(path, fmt.Sprintf("argument %d has a NUL character", i))
		}
	}
}

// hooks reads a list of argument lists, or one argument list.
func (b *builder) hooks(path string) [][]string {
	n := b.doc.nodes[path]
	if n == nil {
		return nil
	}
	if n.Kind != yaml.SequenceNode {
		example := `["bin/migrate", "--check"]`
		if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!str" {
			if list, _ := asArguments(n.Value); list != "" {
				example = list
			}
		}
		b.add(path, fmt.Sprintf(`is %s; it takes a list of argument lists: [%s]`, form(n), example))
		return nil
	}
	lists := 0
	for _, item := range n.Content {
		if deref(item).Kind == yaml.SequenceNode {
			lists++
		}
	}
	line := b.doc.line(path)
	switch {
	case len(n.Content) == 0:
		return nil
	case lists == 0:
		return b.oneHook(nil, path, b.doc.words(n, path, line, maxItems))
	case lists < len(n.Content):
		b.add(path, "mixes argument lists and text; write each hook as a list of its own")
		return nil
	case lists > maxHooks:
		b.add(path, fmt.Sprintf("has %d hooks, at most %d are allowed", lists, maxHooks))
		return nil
	}
	var all [][]string
	for i, item := range n.Content {
		at := fmt.Sprintf("%s[%d]", path, i)
		if item = deref(item); len(item.Content) == 0 {
			b.add(at, "the argument list is empty")
			continue
		}
		all = b.oneHook(all, at, b.doc.words(item, at, item.Line, maxItems))
	}
	return all
}

// maxHooks is how many hooks there may be at one point of a rollout.
const maxHooks = 32

func (b *builder) oneHook(all [][]string, path string, words []string) [][]string {
	if len(words) == 0 {
		return all
	}
	b.checkArguments(path, words)
	words[0] = b.program(path, words[0])
	return append(all, words)
}

// variables reads a mapping whose names keep their case. Values are texts as
// they were written.
func (b *builder) variables(path string) map[string]string {
	n := b.doc.nodes[path]
	if n == nil {
		return nil
	}
	if n.Kind != yaml.MappingNode {
		b.add(path, fmt.Sprintf("is %s; it takes names and values: {NAME: value}", form(n)))
		return nil
	}
	pairs := b.doc.pairs(n, path)
	if len(pairs) > maxVariables {
		b.add(path, fmt.Sprintf("has %d entries, at most %d are allowed", len(pairs), maxVariables))
		return nil
	}
	all := map[string]string{}
	for _, p := range pairs {
		key, at := p.key, joinPath(path, p.key.Value)
		b.doc.at[at] = key.Line
		_, twice := all[key.Value]
		switch {
		case key.Kind != yaml.ScalarNode:
			b.add(path, "a name is one word, not "+form(key))
			continue
		case twice:
			b.add(at, "given twice")
			continue
		}
		if word, ok := b.doc.word(deref(p.value), at); ok {
			all[key.Value] = word
		}
	}
	return all
}

// program makes the path of a program: absolute as it is, with a slash relative
// to the file, a bare name by PATH.
func (b *builder) program(path, name string) string {
	switch {
	case name == "" || strings.ContainsRune(name, 0):
		return name // told already
	case strings.HasSuffix(name, "/"):
		b.add(path, fmt.Sprintf("%s is a directory, not a program", short(name)))
		return name
	case strings.Contains(name, "/"):
		return b.absolute(name)
	}
	found, err := b.host.program(name)
	if err != nil {
		b.add(path, fmt.Sprintf(`the program %s is not in the master's PATH; for a file beside the configuration write "./%s"`, short(name), name))
		return name
	}
	return found
}

// absolute makes a path absolute; an empty one stays empty.
func (b *builder) absolute(path string) string {
	if path == "" || filepath.IsAbs(path) {
		return cleanPath(path)
	}
	return filepath.Join(b.dir, path)
}

// cleanPath is filepath.Clean, but an empty path stays empty.
func cleanPath(path string) string {
	if path == "" {
		return ""
	}
	return filepath.Clean(path)
}

// matches reports whether s is made of the characters in class, 1 to 32 of them.
func matches(class, s string) bool {
	return regexp.MustCompile(`^[` + class + `]{1,32}$`).MatchString(s)
}
