package trust

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const stranger = 54321

// Nobody is on the way who could put another directory in the place of this one.
func TestCheck(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to make directories of other users")
	}
	for name, test := range map[string]struct {
		mode  fs.FileMode // of the directory above
		owner int         // of it
		group int
		own   int    // of the directory itself
		want  string // of the error; empty: none
	}{
		"root's":                         {0o755, 0, 0, 0, ""},
		"an owner's":                     {0o755, 1000, 1000, 1000, ""},
		"given away by root":             {0o755, 0, 0, stranger, ""}, // it is for the caller to judge
		"in a stranger's":                {0o755, stranger, stranger, 0, "up belongs to uid 54321, neither to root nor to uid 1000"},
		"in /tmp":                        {0o777 | fs.ModeSticky, 0, 0, 1000, ""},
		"a stranger's in /tmp":           {0o777 | fs.ModeSticky, 0, 0, stranger, "dir belongs to uid 54321"},
		"where all can rename":           {0o777, 0, 0, 1000, "sticky"},
		"where a group can rename":       {0o775, 0, stranger, 1000, "group 54321"},
		"where root's group can":         {0o775, 0, 0, 1000, ""},
		"where the owner's own group":    {0o775, 1000, 1000, 1000, ""},
		"a stranger's in a group's /tmp": {0o775 | fs.ModeSticky, 0, 100, stranger, "dir belongs to uid 54321"},
	} {
		up := filepath.Join(t.TempDir(), "up")
		dir := filepath.Join(up, "dir")
		if err := errors.Join(os.MkdirAll(dir, 0o755), os.Chown(up, test.owner, test.group), os.Chmod(up, test.mode), os.Chown(dir, test.own, test.own)); err != nil {
			t.Fatal(err)
		}
		info, err := Owners{1000}.Check(dir)
		if test.want == "" && (err != nil || Owner(info) != test.own) || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Nobody can change a file, or put another one in its place.
func TestFile(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to make files of other users")
	}
	const trusted = 1000
	for name, test := range map[string]struct {
		dir, file       fs.FileMode
		dirUID, fileUID int
		group           int // the file's
		link            bool
		linkUID         int
		want            string
	}{
		"root's":                      {dir: 0o755, file: 0o755},
		"an owner's":                  {dir: 0o755, file: 0o755, dirUID: trusted, fileUID: trusted},
		"an owner's in /tmp":          {dir: 0o777 | fs.ModeSticky, file: 0o755, fileUID: trusted},
		"by an owner's link":          {dir: 0o755, file: 0o755, link: true, linkUID: trusted},
		"a stranger's":                {dir: 0o755, file: 0o755, fileUID: stranger, want: "file belongs to uid 54321"},
		"in a stranger's":             {dir: 0o755, file: 0o755, dirUID: stranger, want: "dir belongs to uid 54321"},
		"where all can rename":        {dir: 0o777, file: 0o755, want: "can rename"},
		"a stranger's in /tmp":        {dir: 0o777 | fs.ModeSticky, file: 0o755, fileUID: stranger, want: "file belongs to uid 54321"},
		"all may write":               {dir: 0o755, file: 0o757, want: "can write to"},
		"a group may write":           {dir: 0o755, file: 0o775, group: stranger, want: "can write to"},
		"root's group may write":      {dir: 0o755, file: 0o775},
		"by a stranger's link":        {dir: 0o755, file: 0o755, link: true, linkUID: stranger, want: "symbolic link that others"},
		"by a link in /tmp":           {dir: 0o777 | fs.ModeSticky, file: 0o755, link: true, want: "symbolic link that others"},
		"by a link to a stranger's":   {dir: 0o755, file: 0o755, link: true, fileUID: stranger, want: "file belongs to uid 54321"},
		"by a link into a stranger's": {dir: 0o755, file: 0o755, link: true, dirUID: stranger, want: "dir belongs to uid 54321"},
	} {
		dir := filepath.Join(t.TempDir(), "dir")
		file := filepath.Join(dir, "file")
		if err := errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(file, nil, 0o600), os.Chown(file, test.fileUID, test.group), os.Chmod(file, test.file)); err != nil {
			t.Fatal(err)
		}
		path := file
		if test.link {
			path = filepath.Join(dir, "link")
			if err := errors.Join(os.Symlink("file", path), os.Lchown(path, test.linkUID, test.linkUID)); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(os.Chown(dir, test.dirUID, test.dirUID), os.Chmod(dir, test.dir)); err != nil {
			t.Fatal(err)
		}
		err := Owners{trusted}.File(path)
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: %v; want %q", name, err, test.want)
		}
	}
	// Whom an access control list lets write, the mode does not show.
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	list := binary.LittleEndian.AppendUint32(nil, 2) // its version
	for _, e := range [][3]uint32{{1, 6, ^uint32(0)}, {2, 6, stranger}, {4, 4, ^uint32(0)}, {16, 6, ^uint32(0)}, {32, 4, ^uint32(0)}} {
		list = binary.LittleEndian.AppendUint16(list, uint16(e[0]))
		list = binary.LittleEndian.AppendUint16(list, uint16(e[1]))
		list = binary.LittleEndian.AppendUint32(list, e[2])
	}
	if err := unix.Setxattr(file, "system.posix_acl_access", list, 0); err != nil {
		t.Log("no access control lists here:", err)
	} else if err := Own().File(file); err == nil || !strings.Contains(err.Error(), "can write to") {
		t.Error(err)
	}
	if err := Own().File(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func TestCheckMakesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	if _, err := Own().Check(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if _, err := os.Lstat(filepath.Dir(dir)); !errors.Is(err, fs.ErrNotExist) {
		t.Error("it was made")
	}
	if _, err := Own().Check("relative"); err == nil {
		t.Error("a relative path was taken")
	}
}

// A private group may have another number than its user, and others' groups may not
// write all the same.
func TestPrivateGroupOfAnotherNumber(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to make directories of other users")
	}
	text, err := os.ReadFile("/etc/passwd")
	if err != nil {
		t.Skip(err)
	}
	uid, gid := 0, 0
	for line := range strings.Lines(string(text)) {
		u, err := user.Lookup(strings.Split(line, ":")[0])
		if err != nil || u.Uid == u.Gid || u.Gid == "0" {
			continue
		}
		if g, err := user.LookupGroupId(u.Gid); err == nil && g.Name == u.Username {
			uid, _ = strconv.Atoi(u.Uid)
			gid, _ = strconv.Atoi(u.Gid)
		}
	}
	if uid == 0 {
		t.Skip("no user here has a private group of another number")
	}
	for group, want := range map[int]bool{gid: true, stranger: false} {
		up := filepath.Join(t.TempDir(), "up")
		dir := filepath.Join(up, "dir")
		if err := errors.Join(os.MkdirAll(dir, 0o755), os.Chown(up, uid, group), os.Chmod(up, 0o775), os.Chown(dir, uid, group)); err != nil {
			t.Fatal(err)
		}
		if _, err := (Owners{uid}).Check(dir); (err == nil) != want {
			t.Errorf("uid %d, gid %d: %v", uid, group, err)
		}
	}
}

// A directory of root's that the trusted user's private group may write to is as good
// as that user's own.
func TestPrivateGroupOfATrustedUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to make directories of other groups")
	}
	for group, want := range map[int]bool{stranger: true, stranger + 1: false} {
		up := filepath.Join(t.TempDir(), "up")
		dir := filepath.Join(up, "dir")
		if err := errors.Join(os.MkdirAll(dir, 0o755), os.Chown(up, 0, group), os.Chmod(up, 0o775), os.Chown(dir, stranger, stranger)); err != nil {
			t.Fatal(err)
		}
		if _, err := (Owners{stranger}).Check(dir); (err == nil) != want {
			t.Errorf("gid %d: %v", group, err)
		}
	}
}

// A client trusts whom an owner has given a directory on the way to, and nobody whom
// that one has given something.
func TestCheckGiven(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to make directories of other users")
	}
	const other = stranger + 1
	for name, test := range map[string]struct {
		mode    fs.FileMode // of the directory at the top, root's
		up, own int         // whose are the two below it
		link    bool        // the last one is a link to a directory of its owner's beside it
		want    string      // of the error; empty: up is trusted
	}{
		"the user's above":     {mode: 0o755, up: stranger, own: stranger},
		"root's in the user's": {mode: 0o755, up: stranger},
		"the user's link":      {mode: 0o755, up: stranger, own: stranger, link: true},
		"a second stranger":    {mode: 0o755, up: stranger, own: other},
		"a second one's link":  {mode: 0o755, up: stranger, own: other, link: true, want: "is not followed; run the verb as uid 54322"},
		"in /tmp":              {mode: 0o777 | fs.ModeSticky, up: stranger, own: stranger, want: "up belongs to uid 54321"},
		"where all can rename": {mode: 0o777, up: stranger, own: stranger, want: "sticky"},
		"where a group can":    {mode: 0o775 | fs.ModeSticky, up: stranger, own: stranger, want: "run the verb as uid 54321, or with --config"},
	} {
		top := filepath.Join(t.TempDir(), "top")
		up := filepath.Join(top, "up")
		dir, real := filepath.Join(up, "dir"), filepath.Join(up, "dir")
		if test.link {
			real = filepath.Join(up, "real")
		}
		group := 0
		if strings.Contains(name, "a group") {
			group = stranger
		}
		if err := errors.Join(os.MkdirAll(real, 0o755), os.Chown(top, 0, group), os.Chmod(top, test.mode), os.Chown(up, test.up, test.up), os.Chown(real, test.own, test.own)); err != nil {
			t.Fatal(err)
		}
		if test.link {
			if err := errors.Join(os.Symlink(real, dir), os.Lchown(dir, test.own, test.own)); err != nil {
				t.Fatal(err)
			}
		}
		given, _, err := Owners{1000}.CheckGiven(dir)
		switch {
		case test.want != "":
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "remove") {
				t.Errorf("%s: %v", name, err)
			}
		case err != nil || !given.Has(test.up) || given.Has(other):
			t.Errorf("%s: %v, %v", name, given, err)
		}
		if _, err := (Owners{1000}).Check(dir); err == nil || strings.Contains(err.Error(), "remove") {
			t.Errorf("%s: a master takes it: %v", name, err)
		}
	}
}
