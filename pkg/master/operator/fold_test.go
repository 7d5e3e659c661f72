package operator

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/config"
)

func text(lines ...string) (all []api.LogLine) {
	for _, l := range lines {
		all = append(all, api.LogLine{Stream: "stderr", Text: l})
	}
	return all
}

// Sixty checks do not push a program's last words out, in any server's form.
func TestChecksAreFolded(t *testing.T) {
	checks := ofChecks(&config.HTTPCheck{Method: "GET", Path: "/healthz?deep=1"})
	for name, form := range map[string]string{
		"nginx, Apache": `127.0.0.1 - - [30/Nov/2026:16:40:%02d +0000] "GET /healthz?deep=1 HTTP/1.1" 404 153 "-" "masterd-check"`,
		"gin":           `[GIN] 2026/11/30 - 16:40:%02d | 404 |     %[1]d.77µs |       127.0.0.1 | GET      "/healthz"`,
		"uvicorn":       `INFO:     127.0.0.1:4%02d3 - "GET /healthz?deep=1 HTTP/1.1" 404 Not Found`,
		"Python":        `127.0.0.1 - - [30/Nov/2026 16:40:%02d] "GET /healthz?deep=1 HTTP/1.1" 404 -`,
		"logfmt":        `time=2026-11-30T16:40:%02d.123Z level=info path=/healthz status=404 id=a%[1]dbc9e`,
		"JSON":          `{"ts":1796052613.%02d1,"method":"GET","path":"/healthz","status":404}`,
	} {
		lines := text("Traceback: no such table", fmt.Sprintf(form, 7))
		for i := range 60 {
			lines = append(lines, text(fmt.Sprintf(form, i))...)
		}
		got := foldChecks(lines, 50, checks)
		want := fmt.Sprintf(form, 59) + " (and 60 lines before that differ in numbers alone)"
		if !slices.Equal(got, []string{"Traceback: no such table", want}) {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// What is no check's stays, and what says something else stays, however alike it is.
func TestOthersAreNotFolded(t *testing.T) {
	lines := text(`"GET /healthz HTTP/1.1" 200 2`, `"GET /healthz HTTP/1.1" 500 2`, "goroutine 1 [running]", "goroutine 2 [running]", `"GET / HTTP/1.1" 200 2`, `"GET / HTTP/1.1" 200 2`)
	if got := foldChecks(lines, 50, []string{"GET /healthz"}); len(got) != len(lines) || strings.Contains(strings.Join(got, ""), "before") {
		t.Errorf("%q", got)
	}
	if got := foldChecks(lines, 2, nil); !slices.Equal(got, []string{lines[4].Text, lines[5].Text}) {
		t.Errorf("%q", got)
	}
	if got := foldChecks(nil, 2, nil); len(got) != 0 {
		t.Errorf("%q", got)
	}
}
