package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// own is what a version keeps of the configuration that it was run with: the keys that
// are Versioned, and what its listeners were called. What makes the version itself
// (command, directory, environment) is not in it: its store has that.
type own struct {
	Listeners []ownListener  `json:"listeners"` // in their order, which is that of the descriptors
	Keys      map[string]any `json:"keys"`      // by path: a text as in the file, a list of texts, or names and values
}

type ownListener struct {
	Name    string `json:"name"`
	Address string `json:"address"` // in one spelling: what makes it this listener
}

// identifying are the versioned keys that a version's store keeps by itself.
func identifying() []string {
	return []string{"worker.command", "worker.directory", "worker.env", "worker.env_files"}
}

func (k Key) owned() bool { return k.Versioned && !slices.Contains(identifying(), k.Path) }

// Own is what a version that is run with c keeps of it, as JSON, for [Config.For]. It may
// hold secrets: the headers of checks.
func (c *Config) Own() []byte {
	o := own{Listeners: []ownListener{}, Keys: map[string]any{}}
	for i := range c.Listeners {
		o.Listeners = append(o.Listeners, ownListener{c.Listeners[i].Name, c.Listeners[i].where()})
	}
	for _, f := range newSchema().fields(c) {
		if f.key.owned() {
			o.Keys[f.path] = f.plain()
		}
	}
	text, err := json.Marshal(o)
	if err != nil {
		panic("config: texts that cannot be encoded: " + err.Error())
	}
	return text
}

// plain is a value as [own] has it.
func (f field) plain() any {
	switch p := f.ptr.(type) {
	case *string:
		return *p
	case *[]string:
		return append([]string{}, *p...)
	case *map[string]string:
		all := map[string]string{}
		maps.Copy(all, *p)
		return all
	case *[]StatusRange:
		words := make([]string, len(*p))
		for i, r := range *p {
			if words[i] = strconv.Itoa(r.From); r.To != r.From {
				words[i] = fmt.Sprintf("%d-%d", r.From, r.To)
			}
		}
		return strings.Join(words, ",")
	}
	return show(f)
}

// take sets a value that plain gave, or that somebody has written in its place. One that
// is missing is the default: a masterd that did not know the key ran the version so.
func (f field) take(v any, there bool) error {
	texts := func() (all []string, err error) {
		list, ok := v.([]any)
		if there && v != nil && !ok {
			return nil, errors.New("is not a list")
		}
		for _, x := range list {
			text, ok := x.(string)
			if !ok {
				return nil, errors.New("is not a list of texts")
			}
			all = append(all, text)
		}
		return all, nil
	}
	switch p := f.ptr.(type) {
	case *[]string:
		all, err := texts()
		*p = all
		return err
	case *map[string]string:
		*p = nil
		values, ok := v.(map[string]any)
		if there && v != nil && !ok {
			return errors.New("has no names and values")
		}
		for name, x := range values {
			text, ok := x.(string)
			if !ok {
				return errors.New("has values that are no texts")
			}
			if *p == nil {
				*p = map[string]string{}
			}
			(*p)[name] = text
		}
		return nil
	}
	text, ok := v.(string)
	switch {
	case !there:
		text = f.key.Default
	case !ok:
		return errors.New("is no text")
	}
	return assign(f, text)
}

// Kept is a version that was pinned before, as its store knows it.
type Kept struct {
	Command   []string          // as it was run, the program first; nil: not known
	Env       map[string]string //
	Listeners []string          // the names that it knew; nil: not known. What one has that was kept without Own
	Own       []byte            // what [Config.Own] gave; empty: an earlier masterd has kept it
}

// For is c for a kept version: its program is spoken to, checked and ended as it was, and
// its listeners are called as it knew them. Which listeners there are, and all that
// belongs to the service or to its safety, is c's. A version does not get listeners that
// came after it. It may look up users and groups, so it is called beside the loop. The note
// says what of the version's own is not used, and why; empty: all is.
func (c *Config) For(k Kept) (_ *Config, note string) {
	if len(k.Own) == 0 {
		return c.calling(k, nil), "was kept by an earlier masterd without its own settings, so today's settings are used"
	}
	var o own
	if err := o.read(k.Own); err != nil {
		return c.calling(k, nil), fmt.Sprintf("has own settings that cannot be read (%v), so today's settings are used", err)
	}
	then := c.calling(k, o.Listeners)
	if then == c {
		copied := *c
		then = &copied
	}
	if k.Command != nil {
		then.Worker.Command, then.Worker.Env = k.Command, k.Env
	}
	var made *Config
	unknown, err := then.take(o.Keys)
	if err == nil {
		then.checkOwn(nil)
		made, err = c.Adopt(then.text())
	}
	if err != nil {
		note = fmt.Sprintf("has own settings that cannot be used any more (%v), so today's settings are used", err)
		return c.calling(k, o.Listeners), note
	}
	if len(unknown) > 0 {
		note = "has own settings that this masterd does not know, which are not used: " + strings.Join(unknown, ", ")
	}
	return made, note
}

// read reads what Own gave, or what somebody has written in its place.
func (o *own) read(text []byte) error {
	if err := json.Unmarshal(text, o); err != nil {
		return err
	}
	if o.Keys == nil {
		return errors.New("there are no keys")
	}
	for i, l := range o.Listeners {
		same := func(x ownListener) bool { return x.Name == l.Name }
		if !matches("a-z0-9_-", l.Name) || slices.ContainsFunc(o.Listeners[:i], same) {
			return fmt.Errorf("%s is no listener's name, or that of two", short(l.Name))
		}
	}
	return nil
}

// Adopt is a configuration that [Config.For] has made of c, from its [Config.Source]. The
// environment overrides nothing in it: it would be today's.
func (c *Config) Adopt(text []byte) (*Config, error) {
	if len(text) > maxFile {
		return nil, errTooLarge
	}
	made, err := Parse(c.File, text, nil, SystemHost(nil))
	if p := (*Problems)(nil); errors.As(err, &p) && len(p.List) > 0 {
		err = fmt.Errorf("%s: %s", p.List[0].Key, p.List[0].Text) // its lines are in no file
	}
	if err != nil {
		return nil, err
	}
	made.madeOf(c, text)
	return made, nil
}

// madeOf notes what a configuration was made of. What workers may have of root's is the
// service's, whatever a version's preset says.
func (c *Config) madeOf(today *Config, text []byte) {
	c.source = source{text: text, base: today}
	c.Worker.common = today.Worker.commonOnes()
}

// Base is the configuration that c was made of for a kept version; c itself where it was
// not: what the next rollout starts from.
func (c *Config) Base() *Config {
	if c.source.base != nil {
		return c.source.base
	}
	return c
}

// take sets all keys that a version has its own values of. It names those that it does not
// take: of a newer masterd, or of somebody who would have more than a version may.
func (c *Config) take(keys map[string]any) (unknown []string, err error) {
	s, left := newSchema(), maps.Clone(keys)
	c.Health = Health{}
	for name := range keys {
		switch {
		case !s.byPath[name].owned():
		case strings.HasPrefix(name, "health.http."):
			c.Health.HTTP = &HTTPCheck{}
		case strings.HasPrefix(name, "health.tcp."):
			c.Health.TCP = &TCPCheck{}
		}
	}
	for _, f := range s.fields(c) {
		if !f.key.owned() {
			continue
		}
		v, there := keys[f.path]
		if err := f.take(v, there); err != nil {
			return nil, fmt.Errorf("%s: %w", f.path, err)
		}
		delete(left, f.path)
	}
	for _, name := range slices.Sorted(maps.Keys(left)) {
		unknown = append(unknown, short(name))
	}
	return unknown[:min(len(unknown), maxUnknown)], nil
}

// maxUnknown is how many keys that are not taken are named.
const maxUnknown = 8

// calling is c with its listeners as a version knew them, and no others; c itself where
// that makes no difference.
func (c *Config) calling(k Kept, known []ownListener) *Config {
	if known == nil {
		for _, name := range k.Listeners {
			known = append(known, ownListener{Name: name})
		}
		if k.Listeners == nil || !slices.ContainsFunc(c.Listeners, func(l Listener) bool { return !slices.Contains(k.Listeners, l.Name) }) {
			return c
		}
	}
	then := *c
	then.Listeners = nil
	at, taken := make([]int, len(known)), map[int]bool{} // one more than the index of today's; 0: none
	find := func(same func(ownListener, *Listener) bool) {
		for i, o := range known {
			for j := range c.Listeners {
				if at[i] == 0 && !taken[j] && same(o, &c.Listeners[j]) {
					at[i], taken[j] = j+1, true
				}
			}
		}
	}
	find(func(o ownListener, l *Listener) bool { return o.Address == l.where() }) // a listener is its address
	find(func(o ownListener, l *Listener) bool { return o.Name == l.Name })
	called := map[string]string{} // today's names → the version's
	for i, o := range known {
		if at[i] > 0 {
			l := c.Listeners[at[i]-1]
			called[l.Name], l.Name = o.Name, o.Name
			then.Listeners = append(then.Listeners, l)
		}
	}
	if k.Command != nil {
		then.Worker.Command, then.Worker.Env = k.Command, k.Env
	}
	then.checkOwn(called)
	then.madeOf(c, then.text())
	return &then
}

// checkOwn has a check go to a listener that is there. called are the names that listeners
// had when it was written → those that they have.
func (c *Config) checkOwn(called map[string]string) {
	name := func(was string) string {
		if is, ok := called[was]; ok {
			was = is
		}
		if len(c.Listeners) > 0 && !slices.ContainsFunc(c.Listeners, func(l Listener) bool { return l.Name == was }) {
			return c.Listeners[0].Name
		}
		return was
	}
	if h := c.Health.HTTP; h != nil {
		moved := *h
		moved.Listener = name(h.Listener)
		c.Health.HTTP = &moved
	}
	if h := c.Health.TCP; h != nil {
		c.Health.TCP = &TCPCheck{Listener: name(h.Listener)}
	}
}

// ShowOwn is what a version keeps, by key, as people may see it: nil where it keeps nothing
// that can be read.
func ShowOwn(text []byte) map[string]string {
	all := map[string]string{}
	for name, v := range readOwn(text) {
		all[name] = v.shown
	}
	if len(all) == 0 {
		return nil
	}
	return all
}

// DiffOwn is how what two versions keep differs, by key.
func DiffOwn(from, to []byte) (all []Change) {
	was, is := readOwn(from), readOwn(to)
	names := maps.Clone(was)
	maps.Copy(names, is)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if a, b := was[name], is[name]; a.exact != b.exact {
			all = append(all, Change{Key: name, Old: a.shown, New: b.shown})
		}
	}
	return all
}

// readOwn is all that a version keeps, by name, for people and for comparing.
func readOwn(text []byte) map[string]setting {
	var o own
	all := map[string]setting{}
	if o.read(text) != nil {
		return all
	}
	s := newSchema()
	for i, l := range o.Listeners {
		all[fmt.Sprintf("listeners[%s]", l.Name)] = setting{shown: quote(l.Address), exact: fmt.Sprintf("%d %s", i, l.Address)}
	}
	for name, v := range o.Keys {
		var exact bytes.Buffer
		_ = json.NewEncoder(&exact).Encode(v) // it was decoded
		shown := exact.String()
		switch v := v.(type) {
		case string:
			if t := s.byPath[name].Type; t == Text || t == Path || t == "" || checkText(v) != nil {
				v = quote(v)
			}
			shown = v
		case nil:
			shown = ""
		case map[string]any:
			shown = hidden // headers
		case []any:
			words := make([]string, len(v))
			for i, x := range v {
				words[i] = fmt.Sprint(x)
			}
			shown = showList(words)
		}
		all[name] = setting{shown: strings.TrimSpace(shown), exact: exact.String()}
	}
	return all
}
