package main

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/admin"
	"github.com/masterd/masterd/pkg/master/admin/admintest"
)

func TestPageCommand(t *testing.T) {
	const url = "http://127.0.0.1:4711/?token=X"
	acts := make(chan bool, 10)
	var opened []string
	var refuse atomic.Pointer[api.Problem]
	c := newCLI(t)
	c.service("shop", &admintest.Backend{}, func(o *admin.Options) {
		o.Page = func(_ *admin.Person, act bool) (api.Page, error) {
			acts <- act
			if p := refuse.Load(); p != nil {
				return api.Page{}, p
			}
			return api.Page{URL: url}, nil
		}
	})
	c.browse = func(url string) error { opened = append(opened, url); return errors.New("no xdg-open") }
	c.want(0, url+"\n", "", "page")
	c.want(0, url+"\n", "", "page", "--act")
	if look, act := <-acts, <-acts; look || !act || len(opened) != 0 {
		t.Fatalf("asked for with act %v and %v, opened %q", look, act, opened)
	}

	// On a terminal with a display it is opened, unless that is not wanted or nobody's display is root's.
	c.tty = [2]int{80, 24}
	for _, x := range []struct {
		display, flag string
		uid           int
		opens         bool
	}{{"", "", 1000, false}, {":0", "--no-open", 1000, false}, {":0", "", 0, false}, {":0", "", 1000, true}} {
		opened, c.env["DISPLAY"], c.uid = nil, x.display, x.uid
		args := []string{"page"}
		if x.flag != "" {
			args = append(args, x.flag)
		}
		code, out, errs := c.run(args...)
		if code != 0 || out != url+"\n" || len(opened) > 0 != x.opens || strings.Contains(errs, "no xdg-open") != x.opens {
			t.Errorf("%+v: %d %q %q, opened %q", x, code, out, errs, opened)
		}
	}
	refuse.Store(&api.Problem{Status: 503, Message: "No port."})
	c.want(1, "", "masterd: No port.\n", "page")
}
