package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Limits of what one file may hold. Aliases could otherwise make millions of
// values of a few lines.
const (
	maxListeners = 64   // listeners of a service; descriptors passed to a worker are bounded
	maxItems     = 256  // items of a list: arguments, files, hooks, statuses
	maxVariables = 1024 // entries of worker.env and of headers
)

// document is a file as YAML nodes, checked against the schema: which keys
// there are, and that each has a value of its form. Nodes keep what viper
// would lose: lines, the case of names, and keys that nobody knows.
type document struct {
	file   string
	schema schema
	nodes  map[string]*yaml.Node // values, by concrete path: "rollout.bake", "listeners[1].name"
	at     map[string]int        // line of each key, sections too
	items  map[string]int        // how many a list of sections has, by its path
	merged int                   // keys and mappings that "<<" has brought in

	tooMany bool // of them
	list    []Problem
}

// readDocument parses and checks a file. What is wrong is in its list; what is
// right can be used all the same, so that everything wrong is told at once.
func readDocument(file string, data []byte, s schema) *document {
	d := &document{file: file, schema: s, nodes: map[string]*yaml.Node{}, at: map[string]int{}, items: map[string]int{}}
	root := d.parse(data)
	if root == nil {
		return d
	}
	d.section(deref(root), "", "")
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
		d.add(root.Line, "", "the file is "+form(root)+", not keys with values (key: value)"+anotherFormat(data))
		return nil
	}
	return root
}

// section checks a mapping. at is its concrete path, path its schema's.
func (d *document) section(n *yaml.Node, at, path string) {
	seen := map[string]int{}
	for _, p := range d.pairs(n, at) {
		key, value := p.key, p.value
		name := key.Value
		full := joinPath(at, name)
		switch {
		case key.Kind != yaml.ScalarNode:
			d.add(key.Line, at, "a key is one word, not "+form(key))
			continue
		case at == "" && strings.HasPrefix(name, ownPrefix):
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
		d.value(k, deref(value), full, key.Line)
	}
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
		if write := meant(k.Path, n); write != "" {
			d.add(line, at, fmt.Sprintf("is %s", form(n))+write)
			return
		}
		d.add(line, at, fmt.Sprintf("is %s; it takes keys: %s", form(n), d.childNames(k.Path))+orWord(k))
	case k.Type == Section:
		d.nodes[at] = n
		d.section(n, at, k.Path)
	case k.Type == List:
		d.sections(k, n, at, line)
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

// sections checks a list of sections.
func (d *document) sections(k Key, n *yaml.Node, at string, line int) {
	meant, example, most := meantListener, "- name: http", maxListeners
	if l, short := shortListAt(k.Path); short {
		meant, example, most = l.meant, l.example, l.most
	}
	if n.Kind != yaml.SequenceNode {
		if write := meant(n); write != "" {
			d.add(line, at, fmt.Sprintf("is %s, not a list; write %s: [%s]", form(n), k.Name(), write))
			return
		}
		d.add(line, at, fmt.Sprintf("is %s, not a list (%s)", form(n), example))
		return
	}
	if len(n.Content) > most {
		d.add(line, at, fmt.Sprintf("has %d items, at most %d are allowed", len(n.Content), most))
		return
	}
	for i, item := range n.Content {
		path := fmt.Sprintf("%s[%d]", at, i)
		d.at[path] = item.Line
		if item = deref(item); item.Kind != yaml.MappingNode {
			if write := meant(item); write != "" {
				d.add(item.Line, path, fmt.Sprintf("is %s; write %s", form(item), write))
				continue
			}
			d.add(item.Line, path, fmt.Sprintf("is %s; it takes keys: %s", form(item), d.childNames(k.Path)))
			continue
		}
		d.section(item, path, k.Path)
	}
	d.items[at] = len(n.Content)
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
		if word, ok := d.word(deref(item), fmt.Sprintf("%s[%d]", at, i)); ok {
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

// deref follows an alias to what it stands for, which YAML has no other alias be.
func deref(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
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
