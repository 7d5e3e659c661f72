package admin

import (
	"os"
	"os/user"
	"slices"
	"strings"
	"testing"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/master/admin/admintest"
)

func TestWhoMay(t *testing.T) {
	s := begin(t, &admintest.Backend{}, nil)
	for _, c := range []struct {
		who          string
		cred         ipc.Cred
		look, change bool
	}{
		{"root", ipc.Cred{UID: 0}, true, true},
		{"the master's user", ipc.Cred{UID: masterUID, GID: 1}, true, true},
		{"an operator", ipc.Cred{UID: 1000, GID: 1000, Groups: []uint32{4, operatorsGID}}, true, true},
		{"an operator by primary group", ipc.Cred{UID: 1000, GID: operatorsGID}, true, true},
		{"a reader", ipc.Cred{UID: 1001, GID: 1001, Groups: []uint32{readersGID}}, true, false},
		{"a stranger", ipc.Cred{UID: 1002, GID: 1002, Groups: []uint32{4, 27}}, false, false},
		{"somebody in root's group", ipc.Cred{UID: 1003, GID: 0, Groups: []uint32{0}}, false, false},
	} {
		s.comes(c.cred)
		for _, q := range []struct {
			method, path string
			may          bool
		}{
			{"GET", "/v1/status", c.look}, {"GET", "/v1/history", c.look}, {"GET", "/v1/logs", c.look},
			{"POST", "/v1/reload", c.change}, {"POST", "/v1/stop", c.change},
		} {
			code, body := s.do(q.method, q.path, "")
			if may := code != 403; may != q.may {
				t.Errorf("%s asks %s %s and is answered %d %s", c.who, q.method, q.path, code, body)
			}
		}
	}
	// What there is not is nobody's business either.
	s.comes(ipc.Cred{UID: 1002})
	if code, _ := s.do("GET", "/v2/secrets", ""); code != 403 {
		t.Errorf("a stranger asks for what there is not and is answered %d", code)
	}
	if n := s.Counts().Refused; n == 0 {
		t.Error("refusals were not counted")
	}
}

// owners notes who was said to be root or the master's own user.
type owners struct {
	admintest.Backend
	owner []bool
}

func (b *owners) Reload(by string, owner bool, r api.ReloadRequest) (<-chan api.Event, error) {
	b.owner = append(b.owner, owner)
	return b.Backend.Reload(by, owner, r)
}

func TestOperatorsAreNotOwners(t *testing.T) {
	b := &owners{}
	s := begin(t, b, nil)
	for _, c := range []ipc.Cred{{UID: 0}, {UID: masterUID}, {UID: 1000, GID: operatorsGID}, {UID: 1000, Groups: []uint32{0, operatorsGID}}} {
		s.comes(c)
		if code, body := s.do("POST", "/v1/reload", `{"binary":"/bin/x"}`); code != 200 {
			t.Errorf("%+v: %d %s", c, code, body)
		}
	}
	if want := []bool{true, true, false, false}; !slices.Equal(b.owner, want) {
		t.Errorf("%v, want %v", b.owner, want)
	}
}

func TestRefusalsReadAloud(t *testing.T) {
	for _, c := range []struct {
		readers, operators string
		cred               ipc.Cred
		method, path, want string
	}{
		{"4711", "4712", ipc.Cred{UID: 54321}, "GET", "/v1/status",
			`uid 54321 may not look at the service shop; that is for root, masterd's own user (uid 900), members of the group "4712" and members of the group "4711".`},
		{"4711", "4712", ipc.Cred{UID: 54321, GID: readersGID}, "POST", "/v1/reload",
			`uid 54321 may not change the service shop; that is for root, masterd's own user (uid 900) and members of the group "4712".`},
		{"4711", "", ipc.Cred{UID: 54321, GID: readersGID}, "POST", "/v1/reload",
			`uid 54321 may not change the service shop; that is for root and masterd's own user (uid 900). The configuration's admin.operators_group lets a group in.`},
	} {
		s := begin(t, &admintest.Backend{}, func(o *Options) { o.ReadersGroup, o.OperatorsGroup = c.readers, c.operators })
		s.comes(c.cred)
		code, body := s.do(c.method, c.path, "")
		if got := sentence(t, body); code != 403 || got != c.want {
			t.Errorf("answered %d %s\nwant     403 %s", code, got, c.want)
		}
	}
}

func TestAccessChangesWhileConnected(t *testing.T) {
	s := begin(t, &admintest.Backend{}, nil)
	s.comes(ipc.Cred{UID: 1, GID: 5})
	if code, _ := s.do("GET", "/v1/status", ""); code != 403 {
		t.Fatalf("answered %d", code)
	}
	if err := s.SetAccess("", "5", "no-such-group"); err == nil || !strings.Contains(err.Error(), "no-such-group") {
		t.Errorf("an unknown group: %v", err)
	}
	if err := s.SetAccess("production", "5", ""); err != nil {
		t.Fatal(err)
	}
	if code, _ := s.do("GET", "/v1/status", ""); code != 200 {
		t.Errorf("as a reader answered %d", code)
	}
	s.comes(ipc.Cred{})
	if code, _ := s.do("POST", "/v1/stop", ""); code != 409 {
		t.Errorf("the stop of what is now in production is answered %d", code)
	}
}

func TestWhoAsked(t *testing.T) {
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	root := "uid 0"
	if u, err := user.LookupId("0"); err == nil {
		root = u.Username + " (uid 0)"
	}
	for _, c := range []struct {
		cred       ipc.Cred
		sudo, want string
	}{
		{ipc.Cred{UID: 0}, "", root},
		{ipc.Cred{UID: 0}, "alice", "root for alice"},
		{ipc.Cred{UID: 0}, "DOMAIN\\alice", "root for DOMAIN\\alice"},
		{ipc.Cred{UID: 0}, "al ice", root},
		{ipc.Cred{UID: 0}, "alice\x1b[2J", root},
		{ipc.Cred{UID: 0}, strings.Repeat("a", 65), root},
		{ipc.Cred{UID: 54321}, "alice", "uid 54321"},
		{ipc.Cred{UID: uint32(os.Getuid())}, "", me.Username + " (uid " + me.Uid + ")"},
	} {
		if got := by(c.cred, c.sudo); got != c.want {
			t.Errorf("uid %d behind sudo %q is %q, want %q", c.cred.UID, c.sudo, got, c.want)
		}
	}
	b := &admintest.Backend{}
	s := begin(t, b, nil)
	s.do("POST", "/v1/abort", "", api.SudoHeader+": bob")
	s.comes(ipc.Cred{UID: masterUID})
	s.do("POST", "/v1/abort", "", api.SudoHeader+": bob")
	calls := b.Calls()
	if len(calls) != 2 || calls[0].By != "root for bob" || calls[1].By != "uid 900" {
		t.Errorf("the backend was told %+v", calls)
	}
}
