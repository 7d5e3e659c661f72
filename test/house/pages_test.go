package house

import (
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// pages are all Markdown files, by their paths from the root.
func pages(t *testing.T) map[string]string {
	t.Helper()
	const root = "../.."
	all := map[string]string{}
	err := filepath.WalkDir(root, func(at string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && d.Name() == ".git" {
			return filepath.SkipDir
		}
		if err != nil || filepath.Ext(at) != ".md" {
			return err
		}
		text, err := os.ReadFile(at)
		if err != nil {
			return err
		}
		at, err = filepath.Rel(root, at)
		all[filepath.ToSlash(at)] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

var (
	codeBlock = regexp.MustCompile("(?ms)^```([a-z]*)\n(.*?)^```")
	heading   = regexp.MustCompile(`(?m)^#{1,6} +(.+)$`)
	mdLink    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	inCode    = regexp.MustCompile("``[^\n]+?``|`[^`\n]+`")
)

// linksOf are a page's links to files, and to places in them.
func linksOf(text string) (all []string) {
	text = inCode.ReplaceAllString(codeBlock.ReplaceAllString(text, ""), "x")
	for _, m := range mdLink.FindAllStringSubmatch(text, -1) {
		if !strings.Contains(m[1], "://") {
			all = append(all, m[1])
		}
	}
	return all
}

// anchorsOf are the places in a page that can be linked to.
func anchorsOf(text string) map[string]bool {
	all := map[string]bool{}
	for _, m := range heading.FindAllStringSubmatch(codeBlock.ReplaceAllString(text, ""), -1) {
		all[anchor(m[1])] = true
	}
	return all
}

// anchor is what a heading is linked to by, as GitHub makes it.
func anchor(heading string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
			return unicode.ToLower(r)
		}
		return -1
	}, strings.TrimSpace(heading))
}

// TestLinksLeadSomewhere: of every page, to files and to places in pages.
func TestLinksLeadSomewhere(t *testing.T) {
	all, links := pages(t), 0
	for from, text := range all {
		for _, link := range linksOf(text) {
			links++
			file, place, _ := strings.Cut(link, "#")
			to := from
			if file != "" {
				to = path.Join(path.Dir(from), file)
			}
			if _, err := os.Stat(filepath.Join("../..", to)); err != nil {
				t.Errorf("%s links to %s: %v", from, link, err)
			} else if page, ok := all[to]; place != "" && (!ok || !anchorsOf(page)[place]) {
				t.Errorf("%s links to %s: there is no such heading", from, link)
			}
		}
	}
	if links < 50 {
		t.Errorf("%d links were found: what has become of them?", links)
	}
}

// TestInstalledPagesLinkToInstalledOnes: what `make install` leaves out is named, and not
// linked to.
func TestInstalledPagesLinkToInstalledOnes(t *testing.T) {
	makefile, err := os.ReadFile("../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	all, at := pages(t), map[string]string{} // in the source: where it is installed, below DOCDIR
	for _, m := range regexp.MustCompile(`(?m)^\tinstall -m 0644 (.+) \$\(DESTDIR\)\$\(DOCDIR\)/(\S*)$`).FindAllStringSubmatch(string(makefile), -1) {
		for _, pattern := range strings.Fields(m[1]) {
			files, err := filepath.Glob(filepath.Join("../..", pattern))
			if err != nil || len(files) == 0 {
				t.Errorf("make install has %s, and there is nothing: %v", pattern, err)
			}
			for _, file := range files {
				if from, err := filepath.Rel("../..", file); err == nil {
					at[filepath.ToSlash(from)] = path.Join(m[2], filepath.Base(file))
				}
			}
		}
	}
	places := slices.Collect(maps.Values(at))
	installed := 0
	for page, text := range all {
		if at[page] == "" {
			if strings.HasPrefix(page, "docs/") {
				t.Errorf("make install leaves %s out", page)
			}
			continue
		}
		installed++
		for _, link := range linksOf(text) {
			file, _, _ := strings.Cut(link, "#")
			if to := path.Join(path.Dir(at[page]), file); file != "" && !slices.Contains(places, to) {
				t.Errorf("%s is installed and links to %s, which is not installed there: say its name instead", page, link)
			}
		}
	}
	if installed == 0 {
		t.Error("no page is installed")
	}
}

// TestCodeInPagesIsBuilt: Go code that docs/ shows is that of an example, which has tests.
func TestCodeInPagesIsBuilt(t *testing.T) {
	var examples strings.Builder
	goFiles(t, func(at string, text []byte) {
		if strings.HasPrefix(at, "examples/") {
			examples.Write(text)
		}
	})
	blocks := 0
	for page, text := range pages(t) {
		if !strings.HasPrefix(page, "docs/") {
			continue
		}
		for _, m := range codeBlock.FindAllStringSubmatch(text, -1) {
			if m[1] == "go" {
				blocks++
				if !strings.Contains(examples.String(), m[2]) {
					t.Errorf("%s shows code that is in no file below examples/:\n%s", page, m[2])
				}
			}
		}
	}
	if blocks == 0 {
		t.Error("no page shows any")
	}
}
