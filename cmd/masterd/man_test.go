package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// manualFile is held against the tree of commands; -update writes it anew.
const manualFile = "../../docs/man/masterd.8"

func TestManualIsUpToDate(t *testing.T) {
	page := writeManual(newApp().root())
	if *rewrite {
		if err := os.WriteFile(manualFile, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(manualFile)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != page {
		t.Errorf("%s is not what the commands say; go test ./cmd/masterd -update", manualFile)
	}
	// The verb has the page as it was when masterd was built.
	if code, out, errs := newCLI(t).run("man"); code != 0 || out != page && !*rewrite || errs != "" {
		t.Errorf("masterd man: exit %d, %s, and not the page:\n%s", code, errs, out)
	}
}

// TestHelp: the help of each verb, as it is printed.
func TestHelp(t *testing.T) {
	c := newCLI(t)
	var b strings.Builder
	var walk func(cmd *cobra.Command, verbs ...string)
	walk = func(cmd *cobra.Command, verbs ...string) {
		code, out, errs := c.run(append(verbs, "--help")...)
		if code != 0 || errs != "" {
			t.Errorf("%v: exit %d, %s", verbs, code, errs)
		}
		fmt.Fprintf(&b, "$ masterd %s\n%s\n", strings.Join(append(verbs, "--help"), " "), strings.ReplaceAll(out, c.dir, "$DIR"))
		for _, sub := range cmd.Commands() {
			if sub.Name() != "help" {
				walk(sub, append(slices.Clone(verbs), sub.Name())...)
			}
		}
	}
	walk(newApp().root())
	golden(t, "help.txt", b.String())
}

// TestManualNamesEverything does not trust the writer: it looks for each verb
// and flag by itself.
func TestManualNamesEverything(t *testing.T) {
	page, err := os.ReadFile(manualFile)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(page), `\-`, "-")
	var look func(c *cobra.Command)
	look = func(c *cobra.Command) {
		if c.Hidden || c.Name() == "help" {
			return
		}
		section := text
		if c.HasParent() {
			_, rest, ok := strings.Cut(text, `.SS "`+c.UseLine()+`"`)
			if !ok {
				t.Errorf("the manual lacks %q", c.UseLine())
				return
			}
			section, _, _ = strings.Cut(rest, "\n.S")
			if c.Short == "" {
				t.Errorf("%s has no short description", c.CommandPath())
			}
		}
		c.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
			if f.Name != "help" && !strings.Contains(section, `\fB--`+f.Name+`\fR`) {
				t.Errorf("the manual's section on %s lacks --%s", c.CommandPath(), f.Name)
			}
		})
		for _, sub := range c.Commands() {
			look(sub)
		}
	}
	look(newApp().root())
	for _, code := range []string{"0", "1", "2", "3", "4", "5", "6", "7"} {
		if !strings.Contains(text, "\n.B "+code+"\n") {
			t.Errorf("the manual lacks the exit code %s", code)
		}
	}
}

func TestVerbs(t *testing.T) {
	want := "abort check completion events history hold import init list logs man page pause promote prove reload resume rollback run scale status stop sweep unhold upgrade version versions"
	var got []string
	for _, c := range newApp().root().Commands() {
		got = append(got, c.Name())
	}
	if strings.Join(got, " ") != want {
		t.Errorf("the verbs are %v", got)
	}
}
