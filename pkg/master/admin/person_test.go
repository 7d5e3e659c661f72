package admin

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/master/admin/admintest"
)

// opened is a page that was asked for.
type opened struct {
	*Person
	act bool
}

// withPage serves a backend, and tells for whom a page was opened since it was last asked.
func withPage(t *testing.T, b Backend) (s *stage, last func() opened) {
	all := make(chan opened, 1)
	s = begin(t, b, func(o *Options) {
		o.Page = func(p *Person, act bool) (api.Page, error) {
			all <- opened{p, act}
			return api.Page{URL: "http://127.0.0.1:1/?token=X"}, nil
		}
	})
	return s, func() (o opened) {
		select {
		case o = <-all:
		default:
		}
		return o
	}
}

// Who may look may have a page to look at; one to act from is for those who may act.
func TestWhoGetsAPage(t *testing.T) {
	s, last := withPage(t, &admintest.Backend{})
	for _, c := range []struct {
		who       string
		cred      ipc.Cred
		look, act int
	}{
		{"root", ipc.Cred{}, 200, 200},
		{"an operator", ipc.Cred{UID: 1000, GID: operatorsGID}, 200, 200},
		{"a reader", ipc.Cred{UID: 1001, GID: readersGID}, 200, 403},
		{"a stranger", ipc.Cred{UID: 1002}, 403, 403},
	} {
		s.comes(c.cred)
		for body, want := range map[string]int{``: c.look, `{"act":false}`: c.look, `{"act":true}`: c.act} {
			code, text := s.do("POST", "/v1/page", body)
			p := last()
			if code != want || (p.Person != nil) != (want == 200) {
				t.Errorf("%s asks with %s and is answered %d %s", c.who, body, code, text)
			}
			if want == 200 && (!strings.Contains(text, `{"url":"http://127.0.0.1:1/?token=X"`) || p.act != (body == `{"act":true}`)) {
				t.Errorf("%s asks with %s and is answered %s", c.who, body, text)
			}
			if p.Person == nil {
				continue
			}
			if look, change := p.May(); !look || change != (c.act == 200) {
				t.Errorf("%s may %v, %v", c.who, look, change)
			}
		}
	}
	if code, text := s.do("POST", "/v1/page", `{"acts":true}`); code != 403 {
		t.Errorf("answered %d %s", code, text)
	}
}

// What is done from a page is checked as the route of its name does it, and is its person's.
func TestPersonsAct(t *testing.T) {
	b := &admintest.Backend{}
	s, last := withPage(t, b)
	s.comes(ipc.Cred{UID: 0})
	s.do("POST", "/v1/page", `{"act":true}`, api.SudoHeader+": alice")
	p := last()
	want := []admintest.Call{
		{What: "promote", By: "root for alice", Request: api.PromoteRequest{All: true, Reason: "w"}},
		{What: "rollback", By: "root for alice", Request: api.RollbackRequest{Reason: "w"}},
		{What: "abort", By: "root for alice", Request: api.ReasonRequest{Reason: "w"}},
		{What: "hold", By: "root for alice", Request: api.ReasonRequest{Reason: "w"}},
	}
	for _, c := range want {
		events, err := p.Act(c.What, true, "w")
		if err != nil {
			t.Errorf("%s: %v", c.What, err)
			continue
		}
		if ev := <-events; ev.Outcome == nil || ev.Outcome.Result != api.ResultDone {
			t.Errorf("%s: %+v", c.What, ev)
		}
	}
	if got := b.Calls(); !reflect.DeepEqual(got, want) {
		t.Errorf("the backend was asked %+v", got)
	}
	for _, c := range []struct {
		do, why string
		status  int
	}{
		{"hold", " ", 400}, {"promote", strings.Repeat("x", api.MaxReason+1), 400}, {"stop", "", 400}, {"", "", 400},
	} {
		_, err := p.Act(c.do, false, c.why)
		if got := (*api.Problem)(nil); !errors.As(err, &got) || got.Status != c.status {
			t.Errorf("%s: %v", c.do, err)
		}
	}

	// Rights that were taken away are gone at once.
	s.comes(ipc.Cred{UID: 1000, GID: operatorsGID})
	s.do("POST", "/v1/page", `{"act":true}`)
	p = last()
	if err := s.SetAccess("", "4711", ""); err != nil {
		t.Fatal(err)
	}
	_, err := p.Act("abort", false, "")
	if got := (*api.Problem)(nil); !errors.As(err, &got) || got.Status != 403 {
		t.Errorf("an operator of before: %v", err)
	}
	if look, change := p.May(); look || change {
		t.Errorf("they may %v, %v", look, change)
	}
	if got := b.Calls(); len(got) != len(want) {
		t.Errorf("the backend was asked %+v", got)
	}
}
