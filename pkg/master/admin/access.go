package admin

import (
	"fmt"
	"os/user"
	"strconv"
	"strings"

	"github.com/masterd/masterd/pkg/ipc"
)

// role is what a peer may do; each includes the ones before it.
type role uint8

const (
	stranger role = iota // nothing
	reader               // look
	operator             // change
	owner                // anything, without asking the master
)

// access is the rule by which roles are given. It is never changed, only
// replaced as a whole.
type access struct {
	service     string
	environment string
	masterUID   uint32
	readers     *group // nil: none
	operators   *group
}

// group is one of the host's.
type group struct {
	name string
	gid  uint32
}

// newAccess looks up the groups.
func newAccess(o Options) (*access, error) {
	a := &access{service: o.Service, environment: o.Environment, masterUID: uint32(o.MasterUID)}
	var err error
	if a.readers, err = lookup("admin.readers_group", o.ReadersGroup); err != nil {
		return nil, err
	}
	if a.operators, err = lookup("admin.operators_group", o.OperatorsGroup); err != nil {
		return nil, err
	}
	return a, nil
}

func lookup(key, name string) (*group, error) {
	if name == "" {
		return nil, nil
	}
	text := name
	if g, err := user.LookupGroup(name); err == nil {
		text = g.Gid
	} else if _, number := strconv.ParseUint(name, 10, 32); number != nil {
		return nil, fmt.Errorf("%s: looking up the group %q: %w; create it, or name another one", key, name, err)
	}
	gid, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("%s: the group %q has the strange number %q: %w", key, name, text, err)
	}
	return &group{name: name, gid: uint32(gid)}, nil
}

// mode is the socket's: see the package's comment.
func (a *access) mode() uint32 {
	if a.readers == nil && a.operators == nil {
		return 0o600
	}
	return 0o666
}

// role is what a peer may do.
func (a *access) role(c ipc.Cred) role {
	switch {
	case a.privileged(c):
		return owner
	case a.operators.has(c):
		return operator
	case a.readers.has(c):
		return reader
	}
	return stranger
}

// privileged peers could do anything to the master without asking it.
func (a *access) privileged(c ipc.Cred) bool { return c.UID == 0 || c.UID == a.masterUID }

func (g *group) has(c ipc.Cred) bool {
	return g != nil && c.Member(g.gid)
}

// refusal tells a peer why not, and who to turn to.
func (a *access) refusal(c ipc.Cred, want role) string {
	verb, who := "look at", []*group{a.operators, a.readers}
	if want == operator {
		verb, who = "change", who[:1]
	}
	allowed := []string{"root"}
	if a.masterUID != 0 {
		allowed = append(allowed, fmt.Sprintf("masterd's own user (%s)", userName(a.masterUID)))
	}
	for _, g := range who {
		if g != nil {
			allowed = append(allowed, fmt.Sprintf("members of the group %q", g.name))
		}
	}
	s := fmt.Sprintf("%s may not %s the service %s; that is for %s.", userName(c.UID), verb, a.service, list(allowed))
	if want == operator && a.operators == nil {
		s += " The configuration's admin.operators_group lets a group in."
	}
	return s
}

// userName is a user as people know it: "alice (uid 1000)".
func userName(uid uint32) string {
	id := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(id); err == nil && u.Username != "" {
		return u.Username + " (uid " + id + ")"
	}
	return "uid " + id
}

// maxUserName is the longest name believed in the sudo header, in bytes.
const maxUserName = 64

// by says who asks. Behind sudo that is somebody else than the peer; only a
// peer that is root may say so, since root could be anybody anyway.
func by(c ipc.Cred, sudo string) string {
	if c.UID == 0 && sudo != "" && len(sudo) <= maxUserName && !strings.ContainsFunc(sudo, func(r rune) bool {
		return r <= ' ' || r > '~'
	}) {
		return "root for " + sudo
	}
	return userName(c.UID)
}

// list joins names as a sentence does.
func list(names []string) string {
	if len(names) == 1 {
		return names[0]
	}
	return strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1]
}
