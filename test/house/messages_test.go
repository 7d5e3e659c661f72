package house

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// What masterd says to an operator is in the troubleshooting page, by its words.
const troubleshooting = "docs/troubleshooting.md"

const (
	gap   = "…"    // stands for what is known only when a message is printed
	param = "\x00" // and for a parameter of the function that prints it
	words = 3      // what has fewer is a part of a sentence, and found with the rest of it
)

// explained are the files with messages that reach operators in another way than by the log:
// why a reload or another verb failed, what status says, what check finds. calls names those
// whose arguments are messages; nil: every text is one.
//
// Errors in the configuration file are not among them. Each has file, line and key, and says
// what to write instead; all of them are in pkg/master/config/testdata/bad.
var explained = []struct {
	files *regexp.Regexp
	calls []string
}{
	{regexp.MustCompile(`^pkg/master/rollout/(automation|bake|canary|clock|cut|ending|generation|health|machine|request|restart|resume|rollback|rollout|save|scale|slot|steer|stop|vain|worker)\.go$`), nil},
	{regexp.MustCompile(`^pkg/master/(check/check|config/try|config/try_linux|config/parse|config/unexpanded)\.go$`), nil},
	{regexp.MustCompile(`^pkg/api/fault\.go$`), nil},
	{regexp.MustCompile(`^pkg/master/admin/(access|change)\.go$`), nil},
	{regexp.MustCompile(`^pkg/master/admin/routes\.go$`), []string{"fail"}},
	{regexp.MustCompile(`^pkg/master/operator/(backend|ondisk|status)\.go$|^pkg/master/takeover/upgrade\.go$`), nil},
	{regexp.MustCompile(`^pkg/master/(claims|generations|traffic)/|^pkg/master/operator/(canary|check|manager|signals|upgrade|uses)\.go$|^pkg/master/takeover/prove\.go$|^pkg/master/workers/(activated|claims|drain|leftover|probe|silent|unmodified|worker)\.go$`),
		[]string{"fmt.Errorf", "errors.New", "fmt.Sprintf", "refused", "notifyTrouble", "Step"}},
	{regexp.MustCompile(`^pkg/master/version/(executable|inspect|pin|store)\.go$`), []string{"fmt.Errorf", "errors.New", "fail"}},
	{regexp.MustCompile(`^pkg/master/journal/writer\.go$|^pkg/master/logs/(adopt|collector|follow|line|mend)\.go$`), []string{"fmt.Errorf", "fmt.Sprintf", "Unfit", ""}},
	{regexp.MustCompile(`^pkg/master/proc/(filter|shim|start|why)_linux\.go$|^pkg/master/proc/user\.go$|^pkg/master/bindsub/match\.go$`), []string{"refuse", "fmt.Errorf", "fmt.Sprintf", ""}},
	{regexp.MustCompile(`^pkg/master/session/(entry|greet|session|wire)\.go$`), []string{"refuse", "cut", "fmt.Sprintf", ""}},
	{regexp.MustCompile(`^pkg/master/state/(dirs|lock|state)\.go$|^pkg/master/trust/trust\.go$|^pkg/master/listen/(opener|path|split|tcp|unix)_linux\.go$|^pkg/master/contain/scope_linux\.go$`),
		[]string{"refused", "fmt.Errorf", "fmt.Sprintf", "errors.New", ""}},
	{regexp.MustCompile(`^pkg/master/(probe|hook)/`), []string{"fmt.Errorf", "errors.New", "explain"}},
	{regexp.MustCompile(`^pkg/master/draft/(here|program|trial)\.go$`), []string{"fmt.Errorf", "errors.New", "fmt.Sprintf"}},
	{regexp.MustCompile(`^cmd/masterd/`), []string{"fmt.Errorf", "errors.New", "exitf"}},
}

// These take no message for an operator.
var notMessages = []string{"Info", "Debug", "violate", "Go", "strings.Contains", "fmt.Fprintf", "exec.Command"}

// TestMessagesAreExplained: who looks for the words of a message finds what to do.
func TestMessagesAreExplained(t *testing.T) {
	quoted := quotedMessages(t)
	var patterns []*regexp.Regexp
	for _, q := range quoted {
		patterns = append(patterns, regexp.MustCompile("^"+strings.ReplaceAll(regexp.QuoteMeta(q), gap, ".*")+"$"))
	}
	inLog, others := 0, 0
	for _, m := range allMessages(t) {
		switch {
		case m.logged:
			inLog++
			if !slices.Contains(quoted, lowered(m.text)) && !slices.ContainsFunc(patterns, func(p *regexp.Regexp) bool { return p.MatchString(lowered(m.text)) }) {
				t.Errorf("%s:%d: %s does not explain the log's %q", m.path, m.line, troubleshooting, m.text)
			}
		case m.explained():
			others++
			for _, part := range parts(m.text) {
				if len(strings.Fields(part)) >= words && !slices.ContainsFunc(quoted, func(q string) bool { return strings.Contains(q, part) }) {
					t.Errorf("%s:%d: %s does not explain %q", m.path, m.line, troubleshooting, part)
				}
			}
		}
	}
	if inLog < 100 || others < 200 {
		t.Errorf("%d messages of the log and %d others were found: what has become of them?", inLog, others)
	}
}

// TestExplainedMessagesExist: a message that nothing prints any more leads astray.
func TestExplainedMessagesExist(t *testing.T) {
	var said []string
	for _, m := range allMessages(t) {
		said = append(said, lowered(m.text))
	}
	for _, q := range quotedMessages(t) {
		of := parts(q)
		if len(of) == 0 {
			t.Errorf("%s quotes %q, which has no words", troubleshooting, q)
		}
		for _, part := range of {
			short := q == part && len(strings.Fields(part)) < words
			if !slices.ContainsFunc(said, func(s string) bool { return s == part || !short && strings.Contains(s, part) }) {
				t.Errorf("%s quotes %q, and nothing says %q", troubleshooting, q, part)
			}
		}
	}
}

var codeSpan = regexp.MustCompile("``(.+?)``|`([^`]+)`")

// quotedMessages are what stands as code in the first column of the page's tables.
func quotedMessages(t *testing.T) (all []string) {
	t.Helper()
	text, err := os.ReadFile("../../" + troubleshooting)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if cell, ok := strings.CutPrefix(line, "| "); ok {
			cell, _, _ = strings.Cut(cell, " | ")
			for _, m := range codeSpan.FindAllStringSubmatch(cell, -1) {
				all = append(all, lowered(m[1]+m[2]))
			}
		}
	}
	return all
}

// lowered: many a message is the beginning of a sentence in one place and its middle in another.
func lowered(s string) string { return strings.ToLower(s) }

// parts are a message's words between its gaps.
func parts(text string) (all []string) {
	for _, p := range strings.Split(lowered(text), gap) {
		if p = strings.TrimSpace(p); strings.ContainsFunc(p, func(r rune) bool { return r >= 'a' && r <= 'z' }) {
			all = append(all, p)
		}
	}
	return all
}

// message is a text in the code, whole: what is joined by + is one.
type message struct {
	text   string
	path   string
	line   int
	call   string // whose argument it is: "bad" of t.bad, "fmt.Errorf"; empty: none's
	arg    int
	of     string // the package's variable that it is the value of: ErrReplaced
	logged bool
}

func (m message) explained() bool {
	for _, e := range explained {
		if e.files.MatchString(m.path) {
			return !slices.Contains(notMessages, m.call) && (e.calls == nil || slices.Contains(e.calls, m.call))
		}
	}
	return false
}

// printer is a function that logs one of its parameters.
type printer struct {
	dir, name, text string
	arg             int
}

func allMessages(t *testing.T) (all []message) {
	t.Helper()
	var printers []printer
	sentinels := map[string]bool{}
	goFiles(t, func(path string, text []byte) {
		if strings.HasSuffix(path, "_test.go") || strings.HasSuffix(filepath.Dir(path), "test") ||
			!strings.HasPrefix(path, "pkg/") && !strings.HasPrefix(path, "cmd/masterd/") {
			return
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, path, text, 0)
		if err != nil {
			t.Fatal(err)
		}
		r := reader{t: t, fset: fset, path: path}
		r.read(f, scope{})
		all, printers = append(all, r.messages...), append(printers, r.printers...)
		for _, name := range r.sentinels {
			sentinels[filepath.Dir(path)+"."+name] = true
		}
	})
	for i, m := range all {
		all[i].logged = m.logged || sentinels[filepath.Dir(m.path)+"."+m.of]
		for _, p := range printers {
			_, name, _ := strings.Cut("."+m.call, ".")
			if name == p.name && m.arg == p.arg && (ast.IsExported(p.name) || filepath.Dir(m.path) == p.dir) {
				all[i].text, all[i].logged = strings.ReplaceAll(p.text, param, m.text), true
			}
		}
	}
	for i := range all {
		all[i].text = strings.ReplaceAll(all[i].text, param, gap)
	}
	return all
}

// scope is where in a file the reader is: in which function, and in which call's argument.
type scope struct {
	function string
	params   []string
	of       string
	call     string
	arg      int
}

type reader struct {
	t        *testing.T
	fset     *token.FileSet
	path     string
	messages []message
	printers []printer
	// sentinels are the package's variables whose words are logged: ErrReplaced.
	sentinels []string
}

func (r *reader) read(n ast.Node, in scope) {
	switch n := n.(type) {
	case *ast.ImportSpec:
	case *ast.FuncDecl:
		if n.Body != nil {
			r.read(n.Body, scope{function: n.Name.Name, params: names(n.Type)})
		}
	case *ast.ValueSpec:
		in.of = n.Names[0].Name
		r.below(n, in)
	case *ast.AssignStmt:
		if f, ok := n.Rhs[0].(*ast.FuncLit); ok {
			if name, ok := n.Lhs[0].(*ast.Ident); ok {
				r.read(f.Body, scope{function: name.Name, params: names(f.Type)})
				return
			}
		}
		if f, ok := n.Rhs[0].(*ast.SelectorExpr); ok && logs(f.Sel.Name) { // say := log.Warn
			if name, ok := n.Lhs[0].(*ast.Ident); ok {
				r.printers = append(r.printers, printer{filepath.Dir(r.path), name.Name, param, 0})
			}
		}
		r.below(n, in)
	case *ast.CallExpr:
		to := in
		to.call, to.arg = "", 0
		r.read(n.Fun, to)
		for i, a := range n.Args {
			to.call, to.arg = called(n.Fun), i
			if i == 0 && logs(to.call) {
				r.log(a, to)
				continue
			}
			r.read(a, to)
		}
	case *ast.BasicLit, *ast.BinaryExpr:
		text, rest := join(n.(ast.Expr), nil)
		if strings.Trim(text, gap) != "" {
			r.put(n, text, in, false)
		}
		in.call, in.arg = "", 0
		for _, e := range rest {
			r.read(e, in)
		}
	case nil:
	default:
		r.below(n, in)
	}
}

// below reads what n is made of.
func (r *reader) below(n ast.Node, in scope) {
	ast.Inspect(n, func(c ast.Node) bool {
		if c == n {
			return true
		}
		if c != nil {
			r.read(c, in)
		}
		return false
	})
}

// log reads the first argument of a call that logs.
func (r *reader) log(e ast.Expr, in scope) {
	text, _ := join(e, in.params)
	if i := strings.Index(text, param); i >= 0 {
		r.printers = append(r.printers, printer{filepath.Dir(r.path), in.function, text, slices.Index(in.params, nameIn(e, in.params))})
		return
	}
	if name := sentinel(e); name != "" {
		r.sentinels = append(r.sentinels, name)
		return
	}
	if len(parts(text)) == 0 {
		r.t.Errorf("%s: what is logged here has no words that could be looked for", r.fset.Position(e.Pos()))
	}
	r.put(e, text, in, true)
}

// sentinel is the ErrSomething of ErrSomething.Error().
func sentinel(e ast.Expr) string {
	if c, ok := e.(*ast.CallExpr); ok {
		if s, ok := c.Fun.(*ast.SelectorExpr); ok && s.Sel.Name == "Error" {
			if i, ok := s.X.(*ast.Ident); ok && strings.HasPrefix(i.Name, "Err") {
				return i.Name
			}
		}
	}
	return ""
}

func (r *reader) put(n ast.Node, text string, in scope, logged bool) {
	r.messages = append(r.messages, message{text, r.path, r.fset.Position(n.Pos()).Line, in.call, in.arg, in.of, logged})
}

func logs(call string) bool { return call == "Warn" || call == "Error" || call == "DPanic" }

// called is the name of a function, with its package if that is one of the standard library's.
func called(f ast.Expr) string {
	switch f := f.(type) {
	case *ast.Ident:
		return f.Name
	case *ast.SelectorExpr:
		if p, ok := f.X.(*ast.Ident); ok && slices.Contains([]string{"fmt", "errors", "zap", "strings", "exec"}, p.Name) {
			return p.Name + "." + f.Sel.Name
		}
		return f.Sel.Name
	}
	return ""
}

func names(f *ast.FuncType) (all []string) {
	for _, p := range f.Params.List {
		for _, n := range p.Names {
			all = append(all, n.Name)
		}
	}
	return all
}

// nameIn is the one of params that e is, or that is joined to others in it.
func nameIn(e ast.Expr, params []string) (name string) {
	ast.Inspect(e, func(n ast.Node) bool {
		if i, ok := n.(*ast.Ident); ok && slices.Contains(params, i.Name) {
			name = i.Name
		}
		return true
	})
	return name
}

var formatVerb = regexp.MustCompile(`%[-+# 0]*(\[\d+\])?[0-9.]*[a-zA-Z]`)

// join is a text as far as it is written down, and what else is in it.
func join(e ast.Expr, params []string) (text string, rest []ast.Expr) {
	switch e := e.(type) {
	case *ast.BasicLit:
		if e.Kind == token.STRING {
			s, _ := strconv.Unquote(e.Value)
			return strings.ReplaceAll(formatVerb.ReplaceAllString(s, gap), "\n", gap), nil
		}
		return gap, nil
	case *ast.ParenExpr:
		return join(e.X, params)
	case *ast.BinaryExpr:
		x, xs := join(e.X, params)
		y, ys := join(e.Y, params)
		if e.Op != token.ADD {
			return gap, []ast.Expr{e.X, e.Y}
		}
		return x + y, append(xs, ys...)
	case *ast.Ident:
		if slices.Contains(params, e.Name) {
			return param, nil
		}
	}
	return gap, []ast.Expr{e}
}
