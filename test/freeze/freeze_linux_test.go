// Package freeze records what others rely on, as the product itself shows it: names
// that programs are written against, what is kept on disk and in the keeper, what
// workers find in their environment, what operators read. A change here is one that
// somebody else has to follow. `go test ./test/freeze -update` records it anew.
//
// What is recorded elsewhere, beside the room that it is of, is listed in CONTRIBUTING.md.
package freeze

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const module = "github.com/masterd/masterd/"

var update = flag.Bool("update", false, "record what is frozen anew")

// golden compares with a file in testdata, line by line.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".txt")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	was, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got == string(was) {
		return
	}
	t.Errorf("%s is not what it was, and others rely on it. If that is meant: go test ./test/freeze -update\n%s", path, differences(string(was), got))
}

// differences are the lines that are in one text only, in its order.
func differences(was, is string) string {
	count := map[string]int{}
	for line := range strings.Lines(was) {
		count[line]++
	}
	for line := range strings.Lines(is) {
		count[line]--
	}
	var b strings.Builder
	for line := range strings.Lines(was) {
		if count[line] > 0 {
			count[line]--
			b.WriteString("- " + line)
		}
	}
	for line := range strings.Lines(is) {
		if count[line] < 0 {
			count[line]++
			b.WriteString("+ " + line)
		}
	}
	if b.Len() == 0 {
		return "the order of lines has changed"
	}
	return b.String()
}
