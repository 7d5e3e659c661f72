package draft

import (
	"bytes"
	"encoding/json"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// MaxName is the longest name of a service.
const MaxName = 32

// lazy compiles a pattern when it is first asked for: every masterd that starts, and the
// shim of each worker, would pay for what init and import alone need.
func lazy(pattern string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(pattern) })
}

var plain = lazy(`^[A-Za-z/_.][A-Za-z0-9/_.-]*$`)

// Quote writes a text so that YAML reads it as text: in JSON, unless it is
// plainly none of YAML's other things.
func Quote(s string) string {
	if plain().MatchString(s) && !slices.Contains([]string{"true", "false", "yes", "no", "on", "off", "null", "y", "n", "nan", "inf"}, strings.ToLower(strings.TrimPrefix(s, "."))) && s != "." {
		return s
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // a text always can be
	return strings.TrimSuffix(b.String(), "\n")
}

// Comment makes a text fit for one line.
func Comment(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == 0x85 || r == 0x2028 || r == 0x2029 {
			return ' '
		}
		return r
	}, s)
}

// ServiceName makes a name that masterd takes, and no other has that is taken; it is taken then.
func ServiceName(name string, taken map[string]bool) string {
	var b strings.Builder
	for _, r := range strings.ToLower(name) {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			b.WriteRune(r)
		} else {
			b.WriteByte('-')
		}
	}
	base := strings.Trim(b.String(), "-")
	base = base[:min(len(base), MaxName)]
	if base == "" {
		base = "program"
	}
	unique := base
	for i := 2; taken[unique]; i++ {
		suffix := "-" + strconv.Itoa(i)
		unique = base[:min(len(base), MaxName-len(suffix))] + suffix
	}
	taken[unique] = true
	return unique
}
