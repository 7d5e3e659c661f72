// Package trust walks to a directory or a file and finds out who could put another
// one in its place. A master makes its directories by it and opens what its
// configuration names, and a client believes nobody behind a socket that a stranger
// could have put there.
//
// The functions keep nothing and may be called from any goroutine. What they open is the
// caller's to close. An error of type [Refused] says who could exchange what, and what to do;
// others are those of the system calls.
package trust

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

const (
	// dirMode is that of directories that are made: workers reach what they are
	// told of, nobody needs a list.
	dirMode  = 0o711
	maxLinks = 40 // symbolic links followed in one path, as the kernel
)

// Owners are the users who are trusted with a path, besides root.
type Owners []int

// Own trusts the user that this process runs as.
func Own() Owners { return Owners{os.Geteuid()} }

// Check walks to a directory that is there, and returns what it is. No other
// than root and the owners can put another thing in its place. Whom the directory
// itself belongs to is for the caller to judge: see [Owner] and [Owners.Has].
func (o Owners) Check(dir string) (fs.FileInfo, error) {
	_, info, err := (&walk{owners: o, look: os.Lstat}).to(dir)
	return info, err
}

// CheckGiven is Check for clients: it trusts, below it, also whom an owner has given
// a directory on the way to, as service managers do with a service's user. It returns
// all who are trusted then. A second one, whom that user has given something, is not.
func (o Owners) CheckGiven(dir string) (Owners, fs.FileInfo, error) {
	w := &walk{owners: slices.Clone(o), look: os.Lstat, client: true}
	_, info, err := w.to(dir)
	return w.owners, info, err
}

// Make makes a directory with its parents, and returns it without symbolic links.
func (o Owners) Make(dir string) (path string, info fs.FileInfo, err error) {
	return (&walk{owners: o, look: lookOrMake}).to(dir)
}

// File walks to a file that is there: no other than root and the owners can change
// it or put another one in its place. Of a directory it says that of what is in it.
func (o Owners) File(path string) error {
	at, info, err := (&walk{owners: o, look: os.Lstat, file: true}).to(path)
	switch {
	case err != nil:
		return err
	case !o.owns(info):
		return o.refuse(at, info, "")
	case o.shared(at, info):
		return refused("others can write to %s (mode %v, group %d)", at, info.Mode().Perm(), group(info))
	}
	return nil
}

// Refused is why something is not used: who could put another thing in its place, and
// what to do about it.
type Refused string

func (r Refused) Error() string { return string(r) }

func refused(format string, args ...any) error { return Refused(fmt.Sprintf(format, args...)) }

// walk is one walk to a directory, or to a file.
type walk struct {
	owners Owners
	look   func(string) (fs.FileInfo, error)
	file   bool // what is at the end need not be a directory
	client bool // it trusts whom a directory was given to
	given  bool // there was one

	open    bool // what is at the end is opened: it need not be there
	loose   bool // directories may be anybody's: behind such a one no link is followed
	strayed bool // there was such a one
}

// to goes down from the root. In a directory that others can write to (/tmp)
// the next part must be a real directory of an owner's; elsewhere the directory
// itself must be an owner's. So what was checked cannot be swapped by anybody
// but root and the owners, and looking at a name twice is looking at the same
// thing. Symbolic links that an owner made are followed.
func (w *walk) to(path string) (at string, parent fs.FileInfo, err error) {
	if !filepath.IsAbs(path) {
		return "", nil, errors.New("the path is not absolute")
	}
	at, rest := "/", strings.Split(path, "/")
	parent, err = os.Lstat(at)
	for links := 0; err == nil && len(rest) > 0; {
		name := rest[0]
		rest = rest[1:]
		if name == "" || name == "." {
			continue
		}
		if name == ".." { // at has no symbolic links in it
			at = filepath.Dir(at)
			parent, err = os.Lstat(at)
			continue
		}
		if err := w.inside(at, parent); err != nil {
			return "", nil, err
		}
		next, last := filepath.Join(at, name), w.file && len(rest) == 0
		info, err := w.look(next)
		if last && w.open && errors.Is(err, fs.ErrNotExist) {
			return next, nil, nil
		}
		if err != nil {
			return "", nil, err
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			if err := w.step(next, parent, info, last); err != nil {
				return "", nil, err
			}
			at, parent = next, info
			continue
		}
		if links++; links > maxLinks {
			return "", nil, fmt.Errorf("%s: too many symbolic links", next)
		}
		target, err := w.follow(next, parent, info)
		if err != nil {
			return "", nil, err
		}
		if filepath.IsAbs(target) {
			at = "/"
			if parent, err = os.Lstat(at); err != nil {
				return "", nil, err
			}
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return at, parent, err
}

// lookOrMake makes one directory if there is nothing of its name.
func lookOrMake(path string) (fs.FileInfo, error) {
	info, err := os.Lstat(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return info, err
	}
	err = os.Mkdir(path, dirMode)
	if err == nil {
		err = os.Chmod(path, dirMode) // the umask may have taken bits away
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return os.Lstat(path)
}

// inside checks a directory before something in it is looked at: nobody else can take
// that away and put another in its place.
func (w *walk) inside(path string, dir fs.FileInfo) (err error) {
	switch {
	case !w.owners.owns(dir):
		err = w.stranger(path, dir)
	case w.owners.shared(path, dir) && !sticky(dir):
		err = refused("others can rename what is in %s (mode %v without the sticky bit, group %d); use another directory, or type: chmod go-w %[1]s", path, dir.Mode().Perm(), group(dir))
	}
	if err != nil && w.loose {
		w.strayed, err = true, nil
	}
	return err
}

// follow returns what a symbolic link says. In a directory that others can write
// to it is a trap. One of an owner's on the way to a file that is opened is not, if the
// sticky bit keeps it there and it is no second name of another one: secrets are
// mounted so.
func (w *walk) follow(path string, parent, info fs.FileInfo) (string, error) {
	kept := !w.owners.shared(filepath.Dir(path), parent) || w.open && sticky(parent) && names(info) == 1
	if w.strayed || !kept || !w.owners.owns(info) {
		return "", refused("%s is a symbolic link that others could have put there: it is not followed%s", path, w.advice(info))
	}
	return os.Readlink(path)
}

// step checks what is next on the way.
func (w *walk) step(path string, parent, info fs.FileInfo, last bool) error {
	switch {
	case !info.IsDir() && !last:
		return fmt.Errorf("%s is there and is not a directory", path)
	case (last || !w.loose) && sticky(parent) && !w.owners.owns(info) && w.owners.shared(filepath.Dir(path), parent):
		return w.stranger(path, info)
	case last && !info.IsDir() && names(info) > 1 && w.owners.shared(filepath.Dir(path), parent):
		return refused("%s is a second name (a hard link) of a file that may be another's: it is not used%s", path, w.advice(info))
	case w.client && !w.given && !w.owners.owns(info): // in a directory that is an owner's alone
		w.given = true
		w.owners = append(w.owners, Owner(info))
	}
	return nil
}

// advice is what an operator can do. A client's directory is in use, and stays; what
// to do about a file its user knows.
func (w *walk) advice(info fs.FileInfo) string {
	switch {
	case w.open:
		return "; name another file"
	case w.file:
		return ""
	case w.client:
		return fmt.Sprintf("; run the verb as uid %d, or with --config and a configuration of that user's", Owner(info))
	}
	return setAnother
}

const setAnother = "; set another directory"

func (w *walk) stranger(path string, info fs.FileInfo) error {
	advice := w.advice(info)
	if advice != "" && !w.client {
		advice += giveBack(path)
	}
	return w.owners.refuse(path, info, advice)
}

// giveBack is what to type for something that is to stay where it is.
func giveBack(path string) string {
	return fmt.Sprintf(", or type: chown %d %s", os.Geteuid(), path)
}

// Stranger says to a master whom something belongs to, and that it is not used for it.
func (o Owners) Stranger(path string, info fs.FileInfo) error {
	return o.refuse(path, info, setAnother+giveBack(path))
}

func (o Owners) refuse(path string, info fs.FileInfo, advice string) error {
	if advice != "" {
		advice = ": it is not used" + advice
	}
	not := "neither to root nor to " + o.String()
	if !slices.ContainsFunc(o, func(uid int) bool { return uid != 0 }) {
		not = "not to root"
	}
	return refused("%s belongs to uid %d, %s%s", path, Owner(info), not, advice)
}

func (o Owners) String() string {
	var uids []string
	for _, uid := range o {
		if s := "uid " + strconv.Itoa(uid); uid != 0 && !slices.Contains(uids, s) {
			uids = append(uids, s)
		}
	}
	if len(uids) == 0 {
		return "anybody who is trusted here"
	}
	return strings.Join(uids, " or ")
}

// Has tells whether a user is trusted.
func (o Owners) Has(uid int) bool { return uid == 0 || slices.Contains(o, uid) }

func (o Owners) owns(info fs.FileInfo) bool { return o.Has(Owner(info)) }

// shared tells whether others than its owner and those who are trusted can put
// something into a directory. A user's private group is that user's alone; root's is
// root's. With an access control list the group's bits are the most that anybody in
// the list may do.
func (o Owners) shared(path string, info fs.FileInfo) bool {
	mode, gid := info.Mode().Perm(), group(info)
	switch {
	case mode&0o022 == 0:
		return false
	case mode&0o002 != 0, hasACL(path):
		return true
	case gid == 0:
		return false
	}
	alone := func(uid int) bool { return gid == uid || private(uid, gid) }
	return !alone(Owner(info)) && !slices.ContainsFunc(o, alone)
}

// private tells whether a group is its user's private one, by the custom of most
// systems: it has the user's name and is the primary one. Its number may be another.
func private(uid, gid int) bool {
	u, err := user.LookupId(strconv.Itoa(uid))
	if err != nil || u.Gid != strconv.Itoa(gid) {
		return false
	}
	g, err := user.LookupGroupId(u.Gid)
	return err == nil && g.Name == u.Username
}

// Owner is whom a file belongs to.
func Owner(info fs.FileInfo) int {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(st.Uid)
	}
	return os.Geteuid()
}

func group(info fs.FileInfo) int {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(st.Gid)
	}
	return os.Getegid()
}

func sticky(info fs.FileInfo) bool { return info.Mode()&fs.ModeSticky != 0 }

// names is how many hard links a file has.
func names(info fs.FileInfo) uint64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(st.Nlink)
	}
	return 1
}
