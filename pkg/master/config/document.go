package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Limits of what one file may hold. Aliases could otherwise make millions of
// values of a few lines.
const (
	maxListeners = 64   // listeners of a service; descriptors passed to a worker are bounded
	maxItems     = 256  // items of a list: arguments, files, hooks, statuses
	maxVariables = 1024 // entries of worker.env and of headers
	maxDepth     = 64   // aliases that lead to aliases
)

// document is a file as YAML nodes, checked against the schema: which keys
// there are, and that each has a value of its form. Nodes keep what viper
// would lose: lines, the case of names, and keys that nobody knows.
type document struct {
	file   string
	schema schema
	nodes  map[string]*yaml.Node // values, by concrete path: "rollout.bake", "listeners[1].name"
	at     map[string]int        // line of each key, sections too
	items  int                   // listeners
	list   []Problem
}

// readDocument parses and checks a file. What is wrong is in its list; what is
// right can be used all the same, so that everything wrong is told at once.
func readDocument(file string, data []byte, s schema) *document {
	d := &document{file: file, schema: s, nodes: map[string]*yaml.Node{}, at: map[string]int{}}
	root := d.parse(data)
	if root == nil {
		return d
	}
	if root = d.deref(root, ""); root != nil {
		d.section(root, "", "")
	}
	return d
}

// parse returns the one document of a file; nil when there is none.
func (d *document) parse(data []byte) *yaml.Node {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var first, second yaml.Node
	switch err := dec.Decode(&first); {
	case errors.Is(err, io.EOF):
		d.add(0, "", "the file is empty; it needs at least service and worker.command")
		return nil
	case err != nil:
		d.syntax(err, data)
		return nil
	}
	switch err := dec.Decode(&second); {
	case err == nil:
		d.add(second.Line, "", "a second YAML document begins here; a configuration is one")
	case !errors.Is(err, io.EOF):
		d.syntax(err, data)
	}
	if len(first.Content) == 0 {
		d.add(0, "", "the file is empty; it needs at least service and worker.command")
		return nil
	}
	root := first.Content[0]
	if root.Kind == yaml.ScalarNode && root.ShortTag() == "!!null" {
		d.add(0, "", "the file has no keys; it needs at least service and worker.command")
		return nil
	}
	if root.Kind != yaml.MappingNode && root.Kind != yaml.AliasNode {
		d.add(root.Line, "", "the file is "+form(root)+", not keys with values (key: value)")
		return nil
	}
	return root
}

// syntax tells an error of the YAML parser, whose texts begin "yaml: line 3: ".
func (d *document) syntax(err error, data []byte) {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	line := 0
	if m := regexp.MustCompile(`^line (\d+): `).FindStringSubmatch(text); m != nil {
		line, _ = strconv.Atoi(m[1])
		text = text[len(m[0]):]
		if strings.HasPrefix(text, "did not find expected") {
			line++ // the parser, unlike the scanner, counts lines from 0
		}
	}
	if tab := indentTab(data); tab > 0 {
		d.add(tab, "", "not valid YAML: the line is indented with a tab; use spaces")
		return
	}
	d.add(line, "", "not valid YAML: "+text)
}

// indentTab is the first line that is indented with a tab; 0: none.
func indentTab(data []byte) int {
	for i, line := range bytes.Split(data, []byte("\n")) {
		indent := line[:len(line)-len(bytes.TrimLeft(line, " \t"))]
		if bytes.Contains(indent, []byte("\t")) && len(bytes.TrimSpace(line)) > 0 {
			return i + 1
		}
	}
	return 0
}

// section checks a mapping. at is its concrete path, path its schema's.
func (d *document) section(n *yaml.Node, at, path string) {
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		name := key.Value
		full := joinPath(at, name)
		switch {
		case key.Kind != yaml.ScalarNode:
			d.add(key.Line, at, "a key is one word, not "+form(key))
			continue
		case name == "<<":
			d.add(key.Line, full, "merge keys are not supported; write the keys out")
			continue
		case seen[name] > 0:
			d.add(key.Line, full, fmt.Sprintf("given twice; first in line %d", seen[name]))
			continue
		}
		seen[name] = key.Line
		k, ok := d.schema.child(path, name)
		if !ok {
			d.add(key.Line, full, d.schema.unknown(path, name))
			continue
		}
		d.at[full] = key.Line
		if value = d.deref(value, full); value != nil {
			d.value(k, value, full, key.Line)
		}
	}
}

// unknown says that there is no such key, and which one was probably meant:
// one beside it, else one of that name elsewhere.
func (s schema) unknown(section, name string) string {
	var beside []string
	for _, k := range s.children[section] {
		beside = append(beside, k.Name())
	}
	if len(name) > maxWord {
		name = name[:maxWord] + "..."
	}
	for _, k := range s.keys {
		if k.Name() == name {
			return fmt.Sprintf("unknown key; did you mean %s?", k.Path)
		}
	}
	if near := nearest(name, beside); near != "" {
		prefix := ""
		if section != "" {
			prefix = s.children[section][0].Path
			prefix = prefix[:strings.LastIndexByte(prefix, '.')+1]
		}
		return fmt.Sprintf("unknown key; did you mean %s?", prefix+near)
	}
	var names, paths []string
	for _, k := range s.keys {
		names, paths = append(names, k.Name()), append(paths, k.Path)
	}
	if near := nearest(name, names); near != "" {
		return fmt.Sprintf("unknown key; did you mean %s?", paths[slices.Index(names, near)])
	}
	return "unknown key; known here: " + strings.Join(beside, ", ")
}

// value checks the form of one key's value and notes it.
func (d *document) value(k Key, n *yaml.Node, at string, line int) {
	null := n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null"
	switch {
	case null && (k.scalar() || at == "health.http" || at == "health.tcp"):
		d.add(line, at, "has no value"+instead(k))
	case null: // a section or list whose lines are all comments
	case k.Type == Section && n.Kind == yaml.ScalarNode && slices.Contains(k.Allowed, n.Value):
		d.nodes[at] = n
	case k.Type == Section && n.Kind != yaml.MappingNode:
		d.add(line, at, fmt.Sprintf("is %s; it takes keys: %s", form(n), d.childNames(k.Path))+orWord(k))
	case k.Type == Section:
		d.nodes[at] = n
		d.section(n, at, k.Path)
	case k.Type == List:
		d.listeners(k, n, at, line)
	case k.Type == Reserved:
		if len(n.Content) > 0 || n.Kind == yaml.ScalarNode {
			d.add(line, at, "not available in this version of masterd; remove it")
		}
	case k.Type == Statuses && n.Kind == yaml.SequenceNode:
		if items := d.words(n, at, line, maxItems); len(items) > 0 {
			d.nodes[at] = &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: strings.Join(items, ","), Line: line}
		} else if len(n.Content) == 0 {
			d.add(line, at, "the list is empty; no answer would pass")
		}
	case k.scalar():
		d.scalar(k, n, at, line)
	default: // lists and mappings are read where they are used
		d.nodes[at] = n
	}
}

// listeners checks the one list of sections.
func (d *document) listeners(k Key, n *yaml.Node, at string, line int) {
	if n.Kind != yaml.SequenceNode {
		d.add(line, at, fmt.Sprintf("is %s, not a list (- name: http)", form(n)))
		return
	}
	if len(n.Content) > maxListeners {
		d.add(line, at, fmt.Sprintf("has %d items, at most %d are allowed", len(n.Content), maxListeners))
		return
	}
	for i, item := range n.Content {
		path := fmt.Sprintf("%s[%d]", at, i)
		d.at[path] = item.Line
		if item = d.deref(item, path); item == nil {
			continue
		}
		if item.Kind != yaml.MappingNode {
			d.add(item.Line, path, fmt.Sprintf("is %s; it takes keys: %s", form(item), d.childNames(k.Path)))
			continue
		}
		d.section(item, path, k.Path)
	}
	d.items = len(n.Content)
}

// scalar checks that a value is of its key's form, as YAML sees it: "yes" is
// text, not true, and 5 is no duration.
func (d *document) scalar(k Key, n *yaml.Node, at string, line int) {
	if n.Kind != yaml.ScalarNode {
		d.add(line, at, fmt.Sprintf("is %s; it takes %s", form(n), wanted(k)))
		return
	}
	ok := false
	switch tag := n.ShortTag(); k.Type {
	case Integer:
		ok = tag == "!!int"
	case Boolean:
		ok = tag == "!!bool" && (n.Value == "true" || n.Value == "false")
	default: // a number without a unit is told as such by who reads the text
		ok = tag == "!!str" || tag == "!!int" || (tag == "!!float" && k.Type != Text && k.Type != Path)
	}
	if !ok {
		hint := ""
		if (k.Type == Text || k.Type == Path) && n.Style&yaml.TaggedStyle == 0 {
			hint = "; put it in quotes if it is meant as text"
		}
		d.add(line, at, fmt.Sprintf("%s is %s; it takes %s%s", short(n.Value), form(n), wanted(k), hint))
		return
	}
	d.nodes[at] = n
}

// words reads a list of scalars, each as it was written.
func (d *document) words(n *yaml.Node, at string, line, limit int) []string {
	if len(n.Content) > limit {
		d.add(line, at, fmt.Sprintf("has %d items, at most %d are allowed", len(n.Content), limit))
		return nil
	}
	var all []string
	for i, item := range n.Content {
		path := fmt.Sprintf("%s[%d]", at, i)
		if item = d.deref(item, path); item == nil {
			continue
		}
		if word, ok := d.word(item, path); ok {
			all = append(all, word)
		}
	}
	return all
}

// word reads one scalar as it was written.
func (d *document) word(n *yaml.Node, at string) (string, bool) {
	if n.Kind == yaml.ScalarNode {
		switch n.ShortTag() {
		case "!!str", "!!int", "!!float", "!!bool", "!!timestamp":
			return n.Value, true
		case "!!null":
			d.add(n.Line, at, `has no value; write "" for an empty one`)
			return "", false
		}
	}
	d.add(n.Line, at, "is "+form(n)+"; it takes text")
	return "", false
}

// deref follows an alias to what it stands for.
func (d *document) deref(n *yaml.Node, at string) *yaml.Node {
	for range maxDepth {
		if n.Kind != yaml.AliasNode {
			return n
		}
		n = n.Alias
	}
	d.add(n.Line, at, "an alias leads to too many others")
	return nil
}

// lines is where each key stands.
func (d *document) lines() map[string]int { return d.at }

// line is where a key, or else the section that it would be in, stands.
func (d *document) line(at string) int {
	for at != "" {
		if n := d.at[at]; n > 0 {
			return n
		}
		at = at[:max(strings.LastIndexByte(at, '.'), 0)]
	}
	return 0
}

func (d *document) childNames(path string) string {
	var names []string
	for _, k := range d.schema.children[path] {
		names = append(names, k.Name())
	}
	return strings.Join(names, ", ")
}

func (d *document) add(line int, key, text string) {
	d.list = append(d.list, Problem{File: d.file, Line: line, Key: key, Text: text})
}

func joinPath(section, name string) string {
	if len(name) > maxWord {
		name = name[:maxWord] + "..."
	}
	if section == "" {
		return name
	}
	return section + "." + name
}
