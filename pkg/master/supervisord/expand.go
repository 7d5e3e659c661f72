package supervisord

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
)

// expansions are the values of %(NAME)s.
type expansions map[string]string

// expansion is compiled when it is first asked for: not by every masterd that starts.
var expansion = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`%(?:%|\(([^)]*)\)([0-9]*)([sd])|)`) })

// expand does what Python's % does with the forms that supervisord documents.
func (e expansions) expand(text string) (string, error) {
	var wrong error
	out := expansion().ReplaceAllStringFunc(text, func(m string) string {
		if m == "%%" {
			return "%"
		}
		parts := expansion().FindStringSubmatch(m)
		value, ok := e[parts[1]]
		switch {
		case m == "%":
			wrong = fmt.Errorf(`it has a "%%" that stands for nothing (a plain one is written "%%%%")`)
		case !ok && strings.HasPrefix(parts[1], "ENV_"):
			wrong = fmt.Errorf("%s is not in the environment here; run this with the environment of supervisord", strings.TrimPrefix(parts[1], "ENV_"))
		case !ok:
			wrong = fmt.Errorf("nobody knows what %s is", m)
		case parts[3] == "d":
			n, err := strconv.Atoi(value)
			if err != nil {
				wrong = fmt.Errorf("%s is %q and no number", m, value)
				return m
			}
			zero := ""
			if strings.HasPrefix(parts[2], "0") {
				zero = "0"
			}
			width, _ := strconv.Atoi(parts[2]) // empty: none
			return fmt.Sprintf("%"+zero+strconv.Itoa(min(width, 20))+"d", n)
		}
		return value
	})
	return out, wrong
}
