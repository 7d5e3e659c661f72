package trust

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// secret is a file of root's that a stranger wants to have read, written or changed.
func secret(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte("TOKEN=1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// What a file is opened for depends on who could have put it, or a link on the way to
// it, there. In each case the path is top/dir/file.
func TestOpenAndAppend(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to make files of other users")
	}
	real := func(at string) error { return os.WriteFile(at, nil, 0o600) }
	link := func(owner int) func(string) error {
		return func(at string) error {
			to := at + ".real"
			return errors.Join(real(to), os.Symlink(filepath.Base(to), at), os.Lchown(at, owner, owner))
		}
	}
	linkedDir := func(owner int) func(string) error { // dir is a link to another directory
		return func(at string) error {
			dir := filepath.Dir(at)
			return errors.Join(os.Rename(dir, dir+".real"), os.Symlink(dir+".real", dir), os.Lchown(dir, owner, owner), real(at))
		}
	}
	const sticky = 0o777 | fs.ModeSticky
	for name, test := range map[string]struct {
		top, dir       fs.FileMode
		topOwner, dirs int
		make           func(at string) error
		read, log      string // of the errors; empty: it is opened
	}{
		"root's":                        {make: real},
		"the operator's link":           {make: link(0)},
		"the operator's linked dir":     {make: linkedDir(0)},
		"a stranger's link in root's":   {make: link(stranger), read: "not followed", log: "not followed"},
		"a stranger's dir":              {dirs: stranger, make: real, read: "dir belongs to uid 54321"},
		"a link in a stranger's dir":    {dirs: stranger, make: link(stranger), read: "dir belongs", log: "not followed"},
		"root's link there":             {dirs: stranger, make: link(0), read: "dir belongs", log: "not followed"},
		"a stranger's top":              {topOwner: stranger, make: real, read: "top belongs to uid 54321"},
		"a dir link in a stranger's":    {topOwner: stranger, make: linkedDir(stranger), read: "top belongs", log: "not followed"},
		"root's link behind a stranger": {topOwner: stranger, make: link(0), read: "top belongs", log: "not followed"},
		"where a group can rename":      {dir: 0o775, make: real, read: "sticky"},
		"in a sticky one":               {dir: sticky, make: real},
		"root's link in a sticky one":   {dir: sticky, make: link(0)}, // mounted secrets
		"a stranger's in a sticky one":  {dir: sticky, make: link(stranger), read: "not followed", log: "not followed"},
		"a stranger's file in a sticky one": {dir: sticky, read: "file belongs to uid 54321", log: "file belongs to uid 54321", make: func(at string) error {
			return errors.Join(real(at), os.Chown(at, stranger, stranger))
		}},
		"a second name of root's link in a sticky one": {dir: sticky, read: "not followed", log: "not followed", make: func(at string) error {
			return errors.Join(link(0)(at+"1"), os.Link(at+"1", at))
		}},
		"a second name in a sticky one": {dir: sticky, read: "hard link", log: "hard link", make: func(at string) error {
			return os.Link(secret(t), at)
		}},
		"a FIFO":      {make: func(at string) error { return syscall.Mkfifo(at, 0o666) }, read: "not a regular file", log: "not a regular file"},
		"a directory": {make: func(at string) error { return os.Mkdir(at, 0o755) }, read: "is a directory", log: "is a directory"},
		"none":        {make: func(string) error { return nil }, read: "no such file", log: "no such file"},
		"a device":    {make: func(at string) error { return os.Symlink("/dev/null", at) }, read: "not a regular file", log: "not a regular file"},
		"a second name": {dirs: stranger, read: "dir belongs", log: "hard link", make: func(at string) error {
			return os.Link(secret(t), at)
		}},
	} {
		top := filepath.Join(t.TempDir(), "top")
		dir := filepath.Join(top, "dir")
		mode := func(m fs.FileMode) fs.FileMode {
			if m == 0 {
				return 0o755
			}
			return m
		}
		if err := errors.Join(os.MkdirAll(dir, 0o755), test.make(filepath.Join(dir, "file"))); err != nil {
			t.Fatal(name, err)
		}
		group := 0
		if test.dir == 0o775 {
			group = stranger
		}
		if err := errors.Join(os.Chown(top, test.topOwner, test.topOwner), os.Chown(dir, test.dirs, max(group, test.dirs)), os.Chmod(top, mode(test.top)), os.Chmod(dir, mode(test.dir))); err != nil {
			t.Fatal(name, err)
		}
		for want, open := range map[*string]func(string) (*os.File, error){
			&test.read: Own().Open,
			&test.log:  func(path string) (*os.File, error) { return Own().Append(path, false, 0) },
		} {
			f, err := open(filepath.Join(dir, "file"))
			if err == nil {
				f.Close()
			}
			if *want == "" && err != nil || *want != "" && (err == nil || !strings.Contains(err.Error(), *want)) {
				t.Errorf("%s: %v, want %q", name, err, *want)
			}
		}
	}
}

// A name that is swapped for a link between the look and the open leads nowhere.
func TestOpenWhileItIsSwapped(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to make a stranger's directory")
	}
	victim, top := secret(t), t.TempDir()
	dir := filepath.Join(top, "dir")
	evil, good := filepath.Join(top, "evil"), filepath.Join(top, "good")
	if err := errors.Join(os.Mkdir(dir, 0o755), os.Mkdir(good, 0o755), os.Symlink(filepath.Dir(victim), evil), os.Chown(top, stranger, stranger)); err != nil {
		t.Fatal(err)
	}
	stop, swapped := make(chan bool), make(chan bool)
	go func() { // dir is a directory and a link to the victim's, by turns
		defer close(swapped)
		for {
			select {
			case <-stop:
				return
			default:
				_ = errors.Join(os.Rename(dir, good+"1"), os.Rename(evil, dir), os.Rename(dir, evil), os.Rename(good+"1", dir))
			}
		}
	}()
	for range 3000 {
		if f, err := Own().Append(filepath.Join(dir, "secret"), true, 0o640); err == nil {
			_, _ = f.WriteString("appended\n")
			f.Close()
		}
	}
	close(stop)
	<-swapped
	if text, err := os.ReadFile(victim); err != nil || string(text) != "TOKEN=1\n" {
		t.Errorf("%q, %v", text, err)
	}
}

// Who opens a directory this way works in that one, and nobody else can change what is
// in it.
func TestOpenDir(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to make directories of other users")
	}
	for name, test := range map[string]struct {
		mode         fs.FileMode
		owner, group int
		want         string
	}{
		"root's":                  {mode: 0o755},
		"closed":                  {mode: 0o711},
		"an owner's":              {mode: 0o755, owner: 1000, group: 1000},
		"as /tmp":                 {mode: 0o777 | fs.ModeSticky},
		"a stranger's":            {mode: 0o755, owner: stranger, want: "dir belongs to uid 54321, neither to root nor to uid 1000: it is not used; set another directory, or type: chown"},
		"a stranger's sticky one": {mode: 0o777 | fs.ModeSticky, owner: stranger, want: "belongs to uid 54321"},
		"open to all":             {mode: 0o777, want: "sticky"},
		"open to a group":         {mode: 0o775, group: stranger, want: "or type: chmod go-w "},
	} {
		dir := filepath.Join(t.TempDir(), "dir")
		if err := errors.Join(os.Mkdir(dir, 0o755), os.Chown(dir, test.owner, test.group), os.Chmod(dir, test.mode)); err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{dir, dir + "/", dir + "/."} {
			f, err := Owners{1000}.OpenDir(path)
			if test.want != "" {
				if _, ok := errors.AsType[Refused](err); !ok || !strings.Contains(err.Error(), test.want) {
					t.Errorf("%s: %v", name, err)
				}
				continue
			}
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			is, err1 := f.Stat()
			want, err2 := os.Stat(dir)
			if err := errors.Join(err1, err2); err != nil || !os.SameFile(is, want) {
				t.Errorf("%s: another one was opened, %v", name, err)
			}
			f.Close()
		}
	}
	if f, err := Own().OpenDir("/"); err != nil {
		t.Error(err)
	} else {
		f.Close()
	}
}
