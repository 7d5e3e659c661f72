package main

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"unicode"
)

func TestClean(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"plain text, ünïcode, 日本, 🙂", "plain text, ünïcode, 日本, 🙂"},
		{"\x1b[2J\x1b]0;title\x07", `\x1b[2J\x1b]0;title\x07`},
		{"\u009b2J \u0085", `\x9b2J \x85`}, // C1: an escape in one byte
		{"a\r\n\tb\u00a0c", "a   b c"},
		{"abc\u202edef\u2066", `abc\u202edef\u2066`}, // reversed reading order
		{"zero\u200bwidth\ufeff", `zero\u200bwidth\ufeff`},
		{"cut \xe2\x82 short \xff", `cut \xe2\x82 short \xff`},
		{"\x7f", `\x7f`},
		{"\u2028", `\u2028`},
		{"\U000e0041", `\ue0041`}, // a tag
	} {
		if got := clean(c.in); got != c.want {
			t.Errorf("%q becomes %q, want %q", c.in, got, c.want)
		}
	}
	if got := cleanLines("a\nb\tc"); got != "a\nb c" {
		t.Errorf("lines: %q", got)
	}
	if got := cleanOutput("a\tb\nc"); got != "a\tb c" {
		t.Errorf("output: %q", got)
	}
}

func FuzzClean(f *testing.F) {
	f.Add("\x1b[2J\u009b\u202e\xff日")
	f.Fuzz(func(t *testing.T, s string) {
		for _, r := range clean(s) {
			if !unicode.IsPrint(r) {
				t.Fatalf("%q lets %q through", s, r)
			}
		}
		for _, w := range []int{1, 10} {
			if c := cut(clean(s), w); columns(c) > w {
				t.Fatalf("%q cut to %d columns has %d", s, w, columns(c))
			}
			for _, l := range wrap(clean(s), w) {
				if columns(l) > max(w, 2) { // a wide rune cannot be broken
					t.Fatalf("%q wrapped to %d columns has the line %q", s, w, l)
				}
			}
		}
	})
}

func TestCleanJSONMeansTheSame(t *testing.T) {
	in := "\x1b[2J \u009b \u202e \x7f \U000e0041 日本 \"\\"
	b, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	text := cleanJSON(b)
	for _, r := range text {
		if !unicode.IsPrint(r) {
			t.Errorf("%q lets %q through", text, r)
		}
	}
	var out string
	if err := json.Unmarshal([]byte(text), &out); err != nil || out != in {
		t.Errorf("%s means %q, %v", text, out, err)
	}
}

func TestWrap(t *testing.T) {
	for _, c := range []struct {
		in   string
		max  int
		want []string
	}{
		{"", 10, nil},
		{"one two three", 7, []string{"one two", "three"}},
		{"  spaces   all over ", 20, []string{"spaces all over"}},
		{"unbreakable", 4, []string{"unbr", "eaka", "ble"}},
		{"a unbreakable b", 5, []string{"a", "unbre", "akabl", "e b"}},
		{"日本語", 4, []string{"日本", "語"}},
		{"日本語", 1, []string{"日", "本", "語"}},
	} {
		if got := wrap(c.in, c.max); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q in %d columns is %q, want %q", c.in, c.max, got, c.want)
		}
	}
}

func TestCutAndPad(t *testing.T) {
	for _, c := range []struct {
		in   string
		max  int
		want string
	}{
		{"short", 5, "short"}, {"longer", 5, "lo..."}, {"日本語日本語", 7, "日本..."}, {"abc", 2, ".."}, {"abc", 0, ""}, {"abc", -1, ""},
	} {
		if got := cut(c.in, c.max); got != c.want {
			t.Errorf("%q cut to %d is %q, want %q", c.in, c.max, got, c.want)
		}
	}
	if got := pad("日", 4) + "|" + pad("日", -4) + "|" + pad("toolong", 2); got != "日  |  日|toolong" {
		t.Errorf("padded: %q", got)
	}
}

func TestNumbers(t *testing.T) {
	got := strings.Join([]string{
		size(0), size(1023), size(1024), size(1048575), size(47_400_000), size(1 << 62),
		amount(0), amount(99_999), amount(100_000), amount(999_949_999), amount(999_950_000), amount(1<<64 - 1),
		shortDigest("sha256:0123456789abcdef"), shortDigest("x"), several(1, "line"), several(2, "line"),
	}, " ")
	if want := "0 B 1023 B 1.0 KiB 1.0 MiB 45.2 MiB 4.0 EiB 0 99999 100.0k 999.9M 1.0G 18.4E 0123456789ab x 1 line 2 lines"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
