package config

import (
	"bytes"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// hidden stands for a value that is not shown.
const hidden = "(set)"

// commentColumn is where the comments of Effective begin, in characters, if
// the value leaves room.
const commentColumn = 48

// Effective is the configuration in force as YAML: every key with its value
// and, in a comment, where the value came from. Values of worker.env and of
// headers are not shown. But for those, it can be read back.
func Effective(c *Config) string {
	s := newSchema()
	values := map[string]field{}
	for _, f := range s.fields(c) {
		values[f.path] = f
	}
	e := effective{schema: s, config: c, values: values}
	e.section("", "", 0)
	return e.out.String()
}

// text is a configuration as a file from which [Parse] makes the same again, whatever the
// environment says. It says no more than it must, so that an older masterd can read it,
// too. It has secrets in it.
func (c *Config) text() []byte {
	s := newSchema()
	e := effective{schema: s, config: c, values: map[string]field{}, exact: true}
	for _, f := range s.fields(c) {
		e.values[f.path] = f
	}
	e.section("", "", 0)
	return e.out.Bytes()
}

type effective struct {
	schema schema
	config *Config
	values map[string]field
	exact  bool // as text has it
	out    bytes.Buffer
}

// omits tells whether a text need not say what a key is: it would be that anyway, or
// must not be said.
func (e *effective) omits(k Key, f field) bool {
	switch {
	case !e.exact || required(k) || k.Path == "health.http.path": // which says that there is a check
		return false
	case slices.Contains(othersOnly(e.config.Worker.Kind), k.Path):
		return true
	case slices.Contains(filledKeys(), k.Path):
		return false
	}
	def := field{f.path, k, reflect.New(reflect.TypeOf(f.ptr).Elem()).Interface()}
	if k.scalar() {
		_ = assign(def, k.Default)
	}
	return show(def) == show(f)
}

// section writes the keys of one section. path is the schema's, at the concrete one.
func (e *effective) section(path, at string, depth int) {
	indent := strings.Repeat("  ", depth)
	for _, k := range e.schema.children[path] {
		full := joinPath(at, k.Name())
		list, short := shortListAt(k.Path)
		switch {
		case short:
			if len(list.items(e.config)) > 0 || !e.exact {
				e.line(indent+k.Name()+": "+list.show(e.config), e.origin(full))
			}
		case k.Type == List && len(e.config.Listeners) == 0:
			e.line(indent+k.Name()+": []", e.origin(full))
		case k.Type == List:
			e.line(indent+k.Name()+":", "")
			for i := range e.config.Listeners {
				e.listener(fmt.Sprintf("%s[%d]", full, i), depth+1)
			}
		case k.Path == "health.http" && e.config.Health.HTTP == nil:
			if e.config.Health.TCP == nil && len(e.config.Health.Command) == 0 && len(e.config.Listeners) > 0 {
				e.line(indent+"http: none", e.origin(full))
			}
		case k.Path == "health.tcp" && e.config.Health.TCP == nil:
		case k.Path == "health.command" && len(e.config.Health.Command) == 0:
		case k.Type == Section:
			before := e.out.Len()
			e.line(indent+k.Name()+":", "")
			body := e.out.Len()
			e.section(k.Path, full, depth+1)
			// An older masterd may not know the section. That there is a check is said by its own.
			if e.exact && e.out.Len() == body && !strings.HasPrefix(k.Path, "health.") {
				e.out.Truncate(before)
			}
		case k.Type != Section && e.omits(k, e.values[full]):
		case k.Type == Variables && len(*e.values[full].ptr.(*map[string]string)) > 0:
			e.line(indent+k.Name()+":", "")
			all := *e.values[full].ptr.(*map[string]string)
			for _, name := range slices.Sorted(maps.Keys(all)) {
				value := hidden
				if e.exact {
					value = strconv.Quote(all[name])
				}
				e.line(indent+"  "+quote(name)+": "+value, e.origin(joinPath(full, name)))
			}
		default:
			e.line(indent+k.Name()+": "+show(e.values[full]), e.origin(full))
		}
	}
}

// listener writes one item of the list.
func (e *effective) listener(at string, depth int) {
	indent := strings.Repeat("  ", depth)
	for i, k := range e.schema.children["listeners"] {
		lead := indent + "  "
		if i == 0 {
			lead = indent + "- "
		}
		full := joinPath(at, k.Name())
		e.line(lead+k.Name()+": "+show(e.values[full]), e.origin(full))
	}
}

// line writes a line with its comment.
func (e *effective) line(text, comment string) {
	e.out.WriteString(text)
	if comment != "" && !e.exact {
		e.out.WriteString(strings.Repeat(" ", max(1, commentColumn-len(text))))
		e.out.WriteString("# " + comment)
	}
	e.out.WriteByte('\n')
}

// origin is where a value came from; empty when the Config was not parsed.
func (e *effective) origin(path string) string {
	src := e.config.source
	switch {
	case src.vars[path] != "":
		return "environment " + src.vars[path]
	case src.lines[path] > 0:
		return fmt.Sprintf("%s:%d", e.config.File, src.lines[path])
	case src.filled[path] != "":
		return src.filled[path]
	case src.lines == nil:
		return ""
	}
	return "default"
}

// show is a value as it would be written in the file.
func show(f field) string {
	switch p := f.ptr.(type) {
	case *string:
		return quote(*p)
	case *bool:
		return strconv.FormatBool(*p)
	case *time.Duration:
		return showDuration(*p)
	case *int:
		return showNumber(f.key, uint64(*p))
	case *uint64:
		return showNumber(f.key, *p)
	case *uint32:
		return showPercent(*p)
	case *float64:
		return showDecimal(*p)
	case *[]string:
		return showList(*p)
	case *[][]string:
		lists := make([]string, len(*p))
		for i, l := range *p {
			lists[i] = showList(l)
		}
		return "[" + strings.Join(lists, ", ") + "]"
	case *map[string]string:
		names := slices.Sorted(maps.Keys(*p))
		for i, n := range names {
			names[i] = quote(n) + ": " + hidden
		}
		return "{" + strings.Join(names, ", ") + "}"
	case *[]StatusRange:
		return showStatuses(*p)
	}
	return ""
}

func showNumber(k Key, n uint64) string {
	switch k.Type {
	case Size:
		return showSize(n)
	case Rate:
		return showSize(n) + "/s"
	}
	return strconv.FormatUint(n, 10)
}

func showList(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = quote(w)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

func showStatuses(all []StatusRange) string {
	words := make([]string, len(all))
	for i, r := range all {
		if words[i] = strconv.Itoa(r.From); r.To != r.From {
			words[i] = fmt.Sprintf(`"%d-%d"`, r.From, r.To)
		}
	}
	if len(words) == 1 {
		return words[0]
	}
	return "[" + strings.Join(words, ", ") + "]"
}

// plain are texts that YAML cannot take for anything but a scalar.
var plain = regexp.MustCompile(`^[A-Za-z0-9_./]([A-Za-z0-9_./%+=@:~-]*[A-Za-z0-9_./%+=@~-])?$`)

// quote is a text in YAML: plain where that cannot be taken for anything else.
func quote(s string) string {
	if plain.MatchString(s) {
		n := yaml.Node{Kind: yaml.ScalarNode, Value: s}
		if n.ShortTag() == "!!str" && len(s) <= 1024 {
			return s
		}
	}
	return strconv.Quote(s) // Go's escapes are YAML's, too
}
