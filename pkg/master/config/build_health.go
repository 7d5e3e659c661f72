package config

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"

	"go.yaml.in/yaml/v3"
)

// maxPath is the longest path of a check's request, in bytes.
const maxPath = 2048

// chooseCheck decides which check is made, so that its keys have fields.
func (b *builder) chooseCheck(c *Config) {
	none := b.isWord("health") || b.isWord("health.http")
	var http, tcp []string
	for _, k := range b.schema.keys {
		switch {
		case strings.HasPrefix(k.Path, "health.http.") && b.over.values[k.Path].name != "":
			http = append(http, k.Path)
		case strings.HasPrefix(k.Path, "health.tcp.") && b.over.values[k.Path].name != "":
			tcp = append(tcp, k.Path)
		}
	}
	// A section whose form is wrong was meant all the same: no default beside it.
	hasHTTP := !b.isWord("health.http") && (b.doc.at["health.http"] > 0 || len(http) > 0)
	hasTCP := b.doc.at["health.tcp"] > 0 || len(tcp) > 0
	command := b.doc.at["health.command"] > 0 && !b.emptyList("health.command")

	chosen := 0
	for _, has := range []bool{hasHTTP, hasTCP, command} {
		if has {
			chosen++
		}
	}
	at := "health"
	if p := append(http, tcp...); len(p) > 0 {
		at = p[0]
	}
	switch {
	case chosen > 1:
		b.add(at, "more than one of http, tcp and command is given; a worker is checked in one way")
		return
	case none && chosen > 0:
		b.add(at, "none is given, and a check beside it; remove one of them")
		return
	case hasHTTP, chosen == 0 && !none && len(c.Listeners) > 0:
		c.Health.HTTP = &HTTPCheck{}
	case hasTCP:
		c.Health.TCP = &TCPCheck{}
	}
}

// isWord tells whether a word such as none stands in the place of a section.
func (b *builder) isWord(path string) bool {
	n := b.doc.nodes[path]
	return n != nil && n.Kind == yaml.ScalarNode
}

// emptyList tells whether a key has a list of nothing, as in configs/full.yaml.
func (b *builder) emptyList(path string) bool {
	n := b.doc.nodes[path]
	return n == nil || n.Kind == yaml.SequenceNode && len(n.Content) == 0
}

// health checks the check.
func (b *builder) health(c *Config) {
	h := &c.Health
	if h.HTTP != nil {
		b.checkedListener("health.http.listener", &h.HTTP.Listener, c.Listeners)
		b.httpCheck(h.HTTP)
	}
	if h.TCP != nil {
		b.checkedListener("health.tcp.listener", &h.TCP.Listener, c.Listeners)
	}
	if len(h.Command) > 0 {
		h.Command[0] = b.program("health.command", h.Command[0])
	}
	if need := h.Start.Interval; h.Start.Timeout < need {
		b.add("health.start.timeout", fmt.Sprintf("%s is less than one health.start.interval, %s: no check could pass",
			showDuration(h.Start.Timeout), showDuration(need)))
	}
	b.warmup(h)
}

// checkedListener finds the listener that a check goes to.
func (b *builder) checkedListener(path string, name *string, all []Listener) {
	i := slices.IndexFunc(all, func(l Listener) bool { return l.Name == *name })
	switch {
	case len(all) == 0:
		b.add(path, "the service has no listeners to check; use health.command, or remove the check")
	case *name == "":
		*name = all[0].Name
	case i < 0:
		var names []string
		for _, l := range all {
			names = append(names, l.Name)
		}
		text := fmt.Sprintf("there is no listener %s; the listeners are %s", short(*name), strings.Join(names, ", "))
		if near := nearest(*name, names); near != "" {
			text = fmt.Sprintf("there is no listener %s; did you mean %s?", short(*name), near)
		}
		b.add(path, text)
	}
}

// httpCheck refuses what no HTTP request can be made of.
func (b *builder) httpCheck(h *HTTPCheck) {
	if !httpguts.ValidHeaderFieldName(h.Method) { // methods are tokens, too
		b.add("health.http.method", fmt.Sprintf("%s is not an HTTP method", short(h.Method)))
	}
	b.requestPath("health.http.path", h.Path)
	if h.Host != "" && !httpguts.ValidHostHeader(h.Host) {
		b.add("health.http.host", fmt.Sprintf("%s is not a host", short(h.Host)))
	}
	seen := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(h.Headers)) {
		value, at := h.Headers[name], joinPath("health.http.headers", name)
		canonical := http.CanonicalHeaderKey(name)
		switch {
		case !httpguts.ValidHeaderFieldName(name):
			b.add(at, "is not the name of a header")
		case !httpguts.ValidHeaderFieldValue(value):
			b.add(at, "its value has characters that no header may have")
		case canonical == "Host":
			b.add(at, "write health.http.host")
		case slices.Contains([]string{"Connection", "Content-Length", "Transfer-Encoding", "Upgrade", "Te", "Trailer", "Expect"}, canonical):
			b.add(at, "is set by the check itself")
		case seen[canonical]:
			b.add(at, "is given twice, in different spellings")
		}
		seen[canonical] = true
	}
}

// requestPath refuses what would break the request line.
func (b *builder) requestPath(path, value string) {
	switch {
	case !strings.HasPrefix(value, "/"):
		b.add(path, fmt.Sprintf("%s does not begin with /", short(value)))
	case len(value) > maxPath:
		b.add(path, fmt.Sprintf("has %d bytes, at most %d are allowed", len(value), maxPath))
	case strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '#' }):
		b.add(path, fmt.Sprintf("%s has characters that must be percent-encoded (%%20 for a space)", short(value)))
	}
}

// warmup needs somewhere to go.
func (b *builder) warmup(h *Health) {
	w := h.Warmup
	if w.Path != "" {
		b.requestPath("health.warmup.path", w.Path)
	}
	if w.Requests == 0 {
		return
	}
	if w.Path == "" {
		b.add("health.warmup.path", "must be given when health.warmup.requests is not 0")
	}
	if h.HTTP == nil {
		b.add("health.warmup.requests", "needs an http check: the requests go to its listener")
	}
}
