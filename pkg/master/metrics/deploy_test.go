package metrics

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

const deploy = "../../../deploy/"

// rule is one of the alerts that are shipped.
type rule struct {
	Alert, Expr string
	Annotations map[string]string
}

func rules(t *testing.T) (all []rule) {
	t.Helper()
	text, err := os.ReadFile(deploy + "prometheus/masterd.rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Groups []struct{ Rules []rule } }
	if err := yaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	for _, g := range file.Groups {
		all = append(all, g.Rules...)
	}
	if len(all) == 0 {
		t.Fatal("there are no rules")
	}
	return all
}

// expressions are the queries anywhere in a value that was JSON.
func expressions(v any) (found []string) {
	switch v := v.(type) {
	case map[string]any:
		for key, x := range v {
			if s, is := x.(string); is && (key == "expr" || key == "query") {
				found = append(found, s)
			} else {
				found = append(found, expressions(x)...)
			}
		}
	case []any:
		for _, x := range v {
			found = append(found, expressions(x)...)
		}
	}
	return found
}

// A rule or a panel whose metric was renamed would say nothing for ever.
func TestRulesAndDashboardNameWhatThereIs(t *testing.T) {
	sent := families(t, fake(1, 1))
	var dashboard any
	text, err := os.ReadFile(deploy + "grafana/masterd.json")
	if err == nil {
		err = json.Unmarshal(text, &dashboard)
	}
	if err != nil {
		t.Fatal(err)
	}
	shown := expressions(dashboard)
	if len(shown) < 30 {
		t.Fatalf("%d queries", len(shown))
	}
	for _, r := range rules(t) {
		shown = append(shown, r.Expr)
	}
	name := regexp.MustCompile(`\b(?:masterd|http|go|process)_[a-z0-9_]+`)
	for _, q := range shown {
		for _, n := range name.FindAllString(q, -1) {
			f := sent[n]
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				if base, cut := strings.CutSuffix(n, suffix); f == nil && cut {
					f = sent[base]
				}
			}
			if f == nil {
				t.Errorf("there is no %s, of %s", n, q)
			}
		}
	}
}

// Each rule is tested, and says what to type.
func TestEachRuleIsTested(t *testing.T) {
	tested, err := os.ReadFile(deploy + "prometheus/masterd.rules.test.yml")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rules(t) {
		if !bytes.Contains(tested, []byte(`"`+r.Alert+`"`)) {
			t.Errorf("masterd.rules.test.yml has no %s that fires", r.Alert)
		}
		if r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
			t.Errorf("%s does not say what to do", r.Alert)
		}
	}
}

// The page has each metric that is sent, and none besides.
func TestMonitoringPageHasEachMetric(t *testing.T) {
	page, err := os.ReadFile("../../../docs/monitoring.md")
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\|")
	var written, sent []string
	for _, m := range row.FindAllSubmatch(page, -1) {
		written = append(written, string(m[1]))
	}
	for name := range families(t, fake(1, 1)) {
		if !strings.HasPrefix(name, "go_") && !strings.HasPrefix(name, "process_") {
			sent = append(sent, name)
		}
	}
	for _, name := range sent {
		if !slices.Contains(written, name) {
			t.Errorf("docs/monitoring.md does not have %s", name)
		}
	}
	for _, name := range written {
		if (strings.HasPrefix(name, "masterd_") || strings.HasPrefix(name, "http_")) && !slices.Contains(sent, name) {
			t.Errorf("docs/monitoring.md has %s, and there is none", name)
		}
	}
}

// promtool has the last word on all of it.
func TestPromtool(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("promtool is not installed (Debian's package prometheus has it): what is shipped is checked by less")
	}
	_, text := scrape(t, fake(2, 2), "text/plain")
	for _, args := range [][]string{
		{"check", "rules", "masterd.rules.yml"}, {"test", "rules", "masterd.rules.test.yml"},
		{"check", "config", "prometheus.yml"}, {"check", "metrics"},
	} {
		cmd := exec.CommandContext(t.Context(), promtool, args...)
		cmd.Dir, cmd.Stdin = filepath.Clean(deploy+"prometheus"), bytes.NewReader(text)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}
