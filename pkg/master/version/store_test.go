package version

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
)

// Whatever becomes of the original, the version can be run; and while it is
// what it was, it is what runs.
func TestExecutable(t *testing.T) {
	content := elfFile("", "v1")
	for name, harm := range map[string]func(path string) error{
		"cp over it":   func(p string) error { return os.WriteFile(p, elfFile("", "v2"), 0o755) },
		"same size":    func(p string) error { return os.WriteFile(p, elfFile("", "vX"), 0o755) },
		"half-written": func(p string) error { return os.Truncate(p, 100) },
		"emptied":      func(p string) error { return os.Truncate(p, 0) },
		"removed":      os.Remove,
		"renamed over": func(p string) error {
			return errors.Join(os.WriteFile(p+".new", elfFile("", "v2"), 0o755), os.Rename(p+".new", p))
		},
		"directory":      func(p string) error { return errors.Join(os.Remove(p), os.Mkdir(p, 0o755)) },
		"not executable": func(p string) error { return os.Chmod(p, 0o644) },
		"parent removed": func(p string) error { return os.RemoveAll(filepath.Dir(p)) },
	} {
		t.Run(name, func(t *testing.T) {
			f := setup(t)
			src := f.program("shop", "v1")
			v := f.pin(src)
			f.runs(v, src.Program)
			f.runs(v, src.Program)
			if err := harm(src.Program); err != nil {
				t.Fatal(err)
			}
			f.runs(v, v.Pinned)
			f.open()
			f.runs(v, v.Pinned)
			if err := os.RemoveAll(src.Program); err != nil {
				t.Fatal(err)
			}
			place(t, src.Program, content)
			f.runs(v, src.Program)
		})
	}
}

func TestTamperedCopy(t *testing.T) {
	for name, harm := range map[string]func(path string) error{
		"written to": func(p string) error {
			return errors.Join(os.Chmod(p, 0o755), os.WriteFile(p, elfFile("", "vX"), 0), os.Chmod(p, 0o555))
		},
		"cut":     func(p string) error { return errors.Join(os.Chmod(p, 0o755), os.Truncate(p, 100)) },
		"removed": os.Remove,
		"a link":  func(p string) error { return errors.Join(os.Remove(p), os.Symlink("/bin/true", p)) },
		"a link to its like": func(p string) error {
			return errors.Join(os.Rename(p, p+".moved"), os.Symlink(p+".moved", p))
		},
		"writable": func(p string) error { return os.Chmod(p, 0o777) },
	} {
		t.Run(name, func(t *testing.T) {
			f := setup(t)
			src := f.program("shop", "v1")
			src.Label = "v1"
			v := f.pin(src)
			if err := f.Hold(v.ID, true); err != nil {
				t.Fatal(err)
			}
			os.Remove(src.Program)
			f.runs(v, v.Pinned)
			if err := harm(v.Pinned); err != nil {
				t.Fatal(err)
			}
			_, err := f.Executable(t.Context(), v.ID)
			if err == nil || !strings.Contains(err.Error(), v.Pinned) || !strings.Contains(err.Error(), "reload") {
				t.Fatalf("%v", err)
			}
			// Pinning the same program again mends it, and what people said stays.
			src = f.program("shop", "v1")
			src.Label = "v1"
			mended := f.pin(src)
			if mended.ID != v.ID || mended.Label != "v1" || !mended.Held || mended.Created != v.Created {
				t.Errorf("%+v, was %+v", mended, v)
			}
			os.Remove(src.Program)
			f.runs(v, v.Pinned)
			f.entries(v.ID)
		})
	}
}

func TestPathModeIsWatched(t *testing.T) {
	f := setup(t)
	src := f.program("shop", "v1")
	src.Mode = ModePath
	v := f.pin(src)
	if v.Pinned != "" || v.Mode != ModePath {
		t.Errorf("%+v", v)
	}
	f.runs(v, src.Program)
	place(t, src.Program, elfFile("", "v2"))
	_, err := f.Executable(t.Context(), v.ID)
	if err == nil || !strings.Contains(err.Error(), "was replaced") || !IsReplaced(err) {
		t.Errorf("%v", err)
	}
	os.Remove(src.Program)
	if _, err := f.Executable(t.Context(), v.ID); !errors.Is(err, os.ErrNotExist) || IsReplaced(err) {
		t.Errorf("%v", err)
	}
	f.open()
	place(t, src.Program, elfFile("", "v1"))
	f.runs(v, src.Program)
	if _, err := f.Executable(t.Context(), "000000000000"); err == nil {
		t.Error("an unknown version can be run")
	}
}

// A program in a place that the worker's user may not enter is run from the store.
func TestExecutableByAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to be a master with workers of another user")
	}
	f := setup(t)
	src := f.program("shop", "v1")
	src2 := src
	src2.Mode = ModePath
	copied, watched := f.pin(src), f.pin(src2)
	stranger := &User{UID: 54321, GID: 54321}
	member := &User{UID: 54321, GID: 1, Groups: []int{2, os.Getgid()}}
	bin := filepath.Dir(src.Program)
	if err := os.Chmod(filepath.Dir(f.root), 0o711); err != nil { // t.TempDir is ours alone
		t.Fatal(err)
	}
	if err := stranger.reach(f.root); err != nil {
		t.Skip(err)
	}
	for _, test := range []struct {
		mode os.FileMode
		by   *User
		want string
	}{
		{0o755, stranger, src.Program}, {0o711, stranger, src.Program}, {0o700, stranger, copied.Pinned},
		{0o710, stranger, copied.Pinned}, {0o710, member, src.Program}, {0o701, member, copied.Pinned}, {0o700, nil, src.Program},
		{0o700, &User{}, src.Program},
	} {
		if err := os.Chmod(bin, test.mode); err != nil {
			t.Fatal(err)
		}
		if got, err := f.ExecutableBy(t.Context(), copied.ID, test.by); err != nil || got != test.want {
			t.Errorf("%v for %+v: %s, %v; want %s", test.mode, test.by, got, err, test.want)
		}
		_, err := f.ExecutableBy(t.Context(), watched.ID, test.by)
		if (err == nil) != (test.want == src.Program) || err != nil && !strings.Contains(err.Error(), bin) {
			t.Errorf("%v for %+v: watched: %v", test.mode, test.by, err)
		}
	}
	os.Chmod(bin, 0o700)
	os.Chmod(f.dir, 0o700)
	if _, err := f.ExecutableBy(t.Context(), copied.ID, stranger); err == nil || !strings.Contains(err.Error(), "0711") {
		t.Errorf("a closed store: %v", err)
	}
}

// What a killed master left, what others put there, and what is damaged.
func TestOpenRecovers(t *testing.T) {
	f := setup(t)
	good := f.pin(f.program("shop", "v1"))
	damage := map[string]func(entry string) error{
		"meta torn":       func(e string) error { return os.Truncate(filepath.Join(e, metaName), 30) },
		"meta gone":       func(e string) error { return os.Remove(filepath.Join(e, metaName)) },
		"meta is a link":  func(e string) error { return swap(filepath.Join(e, metaName), "/etc/passwd") },
		"entry is a link": func(e string) error { return swap(e, filepath.Join(f.dir, good.ID)) },
		"program is a link": func(e string) error {
			return swap(filepath.Join(e, programName), filepath.Join(f.dir, good.ID, programName))
		},
		"program gone": func(e string) error { return os.Remove(filepath.Join(e, programName)) },
		"other name":   func(e string) error { return os.Rename(e, e[:len(e)-1]+"_") },
		"swapped id":   func(e string) error { return os.Rename(e, filepath.Join(filepath.Dir(e), "0123456789ab")) },
	}
	for name, harm := range damage {
		v := f.pin(f.program("shop", name))
		if err := harm(filepath.Join(f.dir, v.ID)); err != nil {
			t.Fatal(err)
		}
	}
	left := filepath.Join(f.dir, tempPrefix+"123")
	outside := filepath.Join(f.root, "outside")
	place(t, filepath.Join(left, programName), []byte("half"))
	place(t, outside, []byte("mine"))
	if err := errors.Join(
		os.Symlink(f.root, filepath.Join(left, "link")), os.Symlink(f.root, filepath.Join(f.dir, tempPrefix+"link")),
		os.WriteFile(filepath.Join(f.dir, good.ID, "."+metaName+".tmp-0123456789abcdef"), nil, 0o600),
	); err != nil {
		t.Fatal(err)
	}
	f.open()
	if all := f.List(); len(all) != 1 || all[0].ID != good.ID {
		t.Errorf("usable are %v", all)
	}
	if problems := f.Problems(); len(problems) != len(damage) {
		t.Errorf("%d problems: %s", len(problems), strings.Join(problems, "\n"))
	}
	if _, err := os.Stat(outside); err != nil {
		t.Errorf("a link was followed: %v", err)
	}
	list, _ := os.ReadDir(f.dir)
	for _, e := range list {
		if strings.HasPrefix(e.Name(), tempPrefix) {
			t.Errorf("%s is still there", e.Name())
		}
	}
	// Each can be pinned again.
	for name := range damage {
		v := f.pin(f.program("shop", name))
		os.Remove(filepath.Join(f.root, "bin", "shop"))
		f.runs(v, v.Pinned)
	}
}

func swap(path, target string) error {
	return errors.Join(os.RemoveAll(path), os.Symlink(target, path))
}

func TestOpenRefuses(t *testing.T) {
	root := t.TempDir()
	path := func(name string) string { return filepath.Join(root, name) }
	if err := errors.Join(
		os.Symlink(root, path("link")), os.WriteFile(path("file"), nil, 0o600),
		os.Mkdir(path("open"), 0o700), os.Chmod(path("open"), 0o777),
	); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		path("link"): "symbolic link", path("file"): "not a directory", path("open"): "written by others",
		path("no/versions"): "does not exist", "relative": "not absolute",
	} {
		if _, err := Open(name, Options{}); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestResolve(t *testing.T) {
	f := setup(t)
	src := f.program("shop", "v1")
	src.Label = "one"
	old := f.pin(src)
	src = f.program("shop", "v2")
	src.Label = "two"
	mid := f.pin(src)
	src.Env = nil // the same program with another environment, and the first's label
	src.Label = "one"
	young := f.pin(src)

	digits := func(v Version) string { return strings.TrimPrefix(v.Digest, digestScheme) }
	for ref, want := range map[string]Version{
		old.ID: old, "one": young, "two": mid, old.ID[:6]: old, old.Digest: old, digits(old)[:8]: old, digestScheme + digits(old)[:5]: old,
	} {
		if got, err := f.Resolve(ref); err != nil || got.ID != want.ID {
			t.Errorf("%q is %v, %v; want %v", ref, got, err, want)
		}
	}
	_, err := f.Resolve(digits(mid)[:8])
	if err == nil || !strings.Contains(err.Error(), mid.ID) || !strings.Contains(err.Error(), young.ID) || strings.Contains(err.Error(), old.ID) {
		t.Errorf("ambiguous: %v", err)
	}
	for _, ref := range []string{"", "three", old.ID[:3], "sha256:"} {
		if got, err := f.Resolve(ref); err == nil {
			t.Errorf("%q is %v", ref, got)
		}
	}
	if list := f.List(); list[0].ID != young.ID || list[2].ID != old.ID {
		t.Errorf("newest first: %v", list)
	}
	f.List()[2].Env["X"] = "changed outside"
	if v, _ := f.Get(old.ID); len(v.Env) != 1 {
		t.Error("the store shares its maps")
	}
}

func TestPruneAndHold(t *testing.T) {
	f := setup(t)
	var all []string
	for i := range 6 {
		all = append(all, f.pin(f.program("shop", fmt.Sprint(i))).ID)
	}
	if err := f.Hold(all[0], true); err != nil {
		t.Fatal(err)
	}
	if err := f.Hold("000000000000", true); err == nil {
		t.Error("held what is not there")
	}
	removed, err := f.Prune(2, map[string]bool{all[1]: true})
	slices.Sort(removed)
	want := slices.Sorted(slices.Values(all[2:4]))
	if err != nil || !slices.Equal(removed, want) {
		t.Errorf("removed %v, %v; want %v", removed, err, want)
	}
	f.entries(all[0], all[1], all[4], all[5])
	f.open()
	if v, ok := f.Get(all[0]); !ok || !v.Held {
		t.Errorf("held: %+v", v)
	}
	if err := f.Hold(all[0], false); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Prune(0, nil); err != nil {
		t.Fatal(err)
	}
	f.entries()
}

func TestDiff(t *testing.T) {
	f := setup(t)
	src := f.program("shop", "v1")
	src.Label = "one"
	src.Env = map[string]string{"SAME": "x", "TOKEN": "s3cret-1", "GONE": "s3cret-2"}
	src.EnvFiles = []string{"/etc/a.env"}
	a := f.pin(src)
	src = f.program("shop", "v2 and more")
	src.Label = "two"
	src.Args = append(src.Args[:1:1], "--mode=test", "")
	src.Env = map[string]string{"SAME": "x", "TOKEN": "s3cret-3", "NEW": "s3cret-4"}
	src.Dir = t.TempDir()
	b := f.pin(src)
	changes, err := f.Diff(a.ID, b.ID)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, c := range changes {
		lines = append(lines, c.String())
	}
	text := strings.Join(lines, "\n")
	for _, want := range []string{
		"~ label: one -> two", "~ program: ", "~ size: ", `~ argument 1: "--mode=prod" -> "--mode=test"`, `+ argument 2: ""`,
		"- env GONE: set", "+ env NEW: set", "~ env TOKEN: another value", "- env file /etc/a.env: set", "~ directory: ",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no line %q in\n%s", want, text)
		}
	}
	if strings.Contains(text, "s3cret") || strings.Contains(text, "SAME") || len(lines) != 10 {
		t.Errorf("%d lines\n%s", len(lines), text)
	}
	if same, err := f.Diff(a.ID, a.ID); err != nil || len(same) != 0 {
		t.Errorf("%v, %v", same, err)
	}
	if _, err := f.Diff(a.ID, "000000000000"); err == nil || !strings.Contains(err.Error(), "000000000000") {
		t.Errorf("%v", err)
	}
}

func TestDiffOfBuilds(t *testing.T) {
	build := func(goVersion, revision string, deps map[string]string) string {
		info := debug.BuildInfo{GoVersion: goVersion, Path: "shop", Main: debug.Module{Path: "shop", Version: "(devel)"}}
		for _, path := range slices.Sorted(maps.Keys(deps)) {
			info.Deps = append(info.Deps, &debug.Module{Path: path, Version: deps[path]})
		}
		info.Settings = []debug.BuildSetting{{Key: "vcs.revision", Value: revision}, {Key: "GOARCH", Value: goVersion}}
		return info.String()
	}
	var d difference
	d.builds(
		build("go1.25.0", "aaa", map[string]string{"gin": "v1", "gone": "v1", "same": "v3"}),
		build("go1.26.0", "bbb", map[string]string{"gin": "v2", "new": "v1", "same": "v3"}))
	var got []string
	for _, c := range d.changes {
		got = append(got, c.String())
	}
	want := []string{
		"~ go: go1.25.0 -> go1.26.0", "~ vcs revision: aaa -> bbb", "~ module gin: v1 -> v2", "- module gone: v1", "+ module new: v1",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestLabelOfBuild(t *testing.T) {
	const digest = "sha256:0123456789abcdef0123"
	const revision = "3f2a9c01d7e4aaaabbbbccccddddeeeeffff0000"
	settings := func(dirty string) []debug.BuildSetting {
		return []debug.BuildSetting{{Key: "vcs.revision", Value: revision}, {Key: "vcs.modified", Value: dirty}}
	}
	for want, build := range map[string]*debug.BuildInfo{
		"0123456789ab":       nil,
		"0123456789ab ":      {Main: debug.Module{Version: "(devel)"}},
		"v1.4.2":             {Main: debug.Module{Version: "v1.4.2"}, Settings: settings("false")},
		"v1.4.2+dirty":       {Main: debug.Module{Version: "v1.4.2+dirty"}, Settings: settings("true")},
		"3f2a9c01d7e4":       {Main: debug.Module{Version: "(devel)"}, Settings: settings("false")},
		"3f2a9c01d7e4+dirty": {Settings: settings("true")},
		"3f2a9c01d7e4 ":      {Main: debug.Module{Version: "v0.0.0-20260102030405-3f2a9c01d7e4"}, Settings: settings("false")},
	} {
		if got := labelOf(build, digest); got != strings.TrimSpace(want) {
			t.Errorf("%+v is %q, want %q", build, got, want)
		}
	}
}
