package admin

import (
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/admin/admintest"
)

func TestRoutesAreDescribed(t *testing.T) {
	var doc struct {
		Paths map[string]map[string]any
	}
	if err := yaml.Unmarshal([]byte(api.OpenAPI()), &doc); err != nil {
		t.Fatal(err)
	}
	described := map[string]bool{}
	for path, methods := range doc.Paths {
		for method := range methods {
			described[strings.ToUpper(method)+" "+path] = true
		}
	}
	s := begin(t, &admintest.Backend{}, nil)
	param := regexp.MustCompile(`:(\w+)`)
	routes := map[string]bool{}
	for _, r := range s.routes().Routes() {
		routes[r.Method+" "+param.ReplaceAllString(r.Path, "{$1}")] = true
	}
	if !maps.Equal(described, routes) {
		t.Errorf("openapi.yaml describes\n  %s\nthe server answers\n  %s",
			strings.Join(slices.Sorted(maps.Keys(described)), "\n  "), strings.Join(slices.Sorted(maps.Keys(routes)), "\n  "))
	}
}

func TestWhatIsNotThere(t *testing.T) {
	s := begin(t, &admintest.Backend{}, nil)
	for _, c := range []struct {
		method, path string
		code         int
		want         string
	}{
		{"GET", "/", 404, "There is no / here; GET /v1/openapi.yaml tells what there is."},
		{"GET", "/v1/status/", 404, "There is no /v1/status/ here; GET /v1/openapi.yaml tells what there is."},
		{"GET", "/v1/reload", 405, "/v1/reload cannot be asked with GET; GET /v1/openapi.yaml tells how."},
		{"DELETE", "/v1/status", 405, "/v1/status cannot be asked with DELETE; GET /v1/openapi.yaml tells how."},
		{"GET", "/v1/history?n=0", 400, `n is "0"; it can be a number from 1 to 1000.`},
		{"GET", "/v1/history?n=many", 400, `n is "many"; it can be a number from 1 to 1000.`},
		{"GET", "/v1/events?since=-1", 400, `since is "-1"; it can be a number from 0 to 9223372036854775807.`},
		{"GET", "/v1/events?follow=perhaps", 400, `follow is "perhaps"; it can be true or false.`},
		{"GET", "/v1/logs?worker=-1", 400, `worker is "-1"; it can be a number from 0 to 9223372036854775807.`},
		{"GET", "/v1/logs?follow=perhaps", 400, `follow is "perhaps"; it can be true or false.`},
		{"GET", "/v1/versions/diff?a=1", 400, "A comparison needs two versions: /v1/versions/diff?a=VERSION&b=VERSION."},
	} {
		code, body := s.do(c.method, c.path, "")
		if got := sentence(t, body); code != c.code || got != c.want {
			t.Errorf("%s %s is answered %d %s\nwant %d %s", c.method, c.path, code, got, c.code, c.want)
		}
	}
}

func TestReads(t *testing.T) {
	b := &admintest.Backend{
		StatusIs:  api.Status{Service: "shop", State: "serving", FileDiffers: "a <b> & c"},
		DiffIs:    []string{"program: 1 -> 2"},
		HistoryIs: []api.Entry{{What: "reload", Outcome: "done"}, {What: "start", Outcome: "done"}},
		Lines:     []api.LogLine{{Worker: 1, Text: "one"}, {Worker: 2, Text: "two"}},
	}
	s := begin(t, b, nil)
	zero := "0001-01-01T00:00:00Z"
	for _, c := range []struct{ path, want string }{
		{"/v1/status", `{"schema":0,"service":"shop","state":"serving","now":"` + zero + `","master":{"pid":0,"version":"","since":"` + zero + `"},"config_file":"","file_differs":"a <b> & c","listeners":[],"generations":[]}`},
		{"/v1/versions", `{"schema":1,"versions":[]}`},
		{"/v1/versions/diff?a=1&b=2", `{"lines":["program: 1 -> 2"]}`},
		{"/v1/history?n=1", `{"schema":1,"entries":[{"at":"` + zero + `","what":"reload","by":"","outcome":"done"}]}`},
		{"/v1/logs?worker=2", `{"at":"` + zero + `","worker":2,"generation":0,"version":"","stream":"","text":"two"}`},
		{"/v1/openapi.yaml", strings.TrimSpace(api.OpenAPI())},
	} {
		if code, body := s.do("GET", c.path, ""); code != 200 || body != c.want {
			t.Errorf("%s is answered %d %s\nwant %s", c.path, code, body, c.want)
		}
	}
}

func TestChangesReachTheBackend(t *testing.T) {
	b := &admintest.Backend{VersionsAre: []api.Version{{ID: "7", Label: "feature/x"}}}
	s := begin(t, b, nil)
	for _, c := range []struct {
		path, body, what string
		want             any
	}{
		{"/v1/reload", `{"label":"v2","binary":"/bin/x","until":"baked","confirm":"10m","replace":true,"reason":"r","detach":true}`, "reload",
			api.ReloadRequest{Label: "v2", Binary: "/bin/x", Until: "baked", Confirm: api.Duration(10 * time.Minute), Replace: true, Reason: "r", Detach: true}},
		{"/v1/reload", "  ", "reload", api.ReloadRequest{}},
		{"/v1/rollback", `{"version":"v1"}`, "rollback", api.RollbackRequest{Version: "v1"}},
		{"/v1/promote", `{"reason":"good"}`, "promote", api.PromoteRequest{Reason: "good"}},
		{"/v1/promote", `{"all":true}`, "promote", api.PromoteRequest{All: true}},
		{"/v1/pause", `{"reason":"too slow"}`, "pause", api.ReasonRequest{Reason: "too slow"}},
		{"/v1/resume", ``, "resume", api.ReasonRequest{}},
		{"/v1/abort", ``, "abort", api.ReasonRequest{}},
		{"/v1/hold", `{"reason":"exam week"}`, "hold", api.ReasonRequest{Reason: "exam week"}},
		{"/v1/unhold", ``, "unhold", api.ReasonRequest{}},
		{"/v1/scale", `{"processes":3}`, "scale", api.ScaleRequest{Processes: 3}},
		{"/v1/upgrade", ``, "upgrade", api.UpgradeRequest{}},
		{"/v1/upgrade", `{"binary":"/bin/masterd","reason":"1.2"}`, "upgrade", api.UpgradeRequest{Binary: "/bin/masterd", Reason: "1.2"}},
		{"/v1/stop", `{"patient":true}`, "stop", api.StopRequest{Patient: true}},
		{"/v1/versions/feature%2Fx/pin", ``, "pin", "feature/x"},
		{"/v1/versions/7/unpin", `{}`, "unpin", "7"},
	} {
		before := len(b.Calls())
		if code, body := s.do("POST", c.path, c.body); code != 200 {
			t.Errorf("%s is answered %d %s", c.path, code, body)
			continue
		}
		calls := b.Calls()[before:]
		if len(calls) != 1 || calls[0].What != c.what || !reflect.DeepEqual(calls[0].Request, c.want) {
			t.Errorf("%s came to the backend as %+v", c.path, calls)
		}
	}
}

func TestBodiesAreReadStrictly(t *testing.T) {
	b := &admintest.Backend{}
	s := begin(t, b, nil)
	for _, c := range []struct {
		path, body string
		code       int
		want       string
	}{
		{"/v1/reload", `{"lable":"v2"}`, 400, `There is no field "lable"; there are label, binary, until, confirm, replace, reason, detach, canary and skip_canary.`},
		{"/v1/versions/7/pin", `{"on":true}`, 400, `There is no field "on"; this takes no body.`},
		{"/v1/reload", `{"replace":"yes"}`, 400, `replace cannot be a string.`},
		{"/v1/reload", `[1]`, 400, "The body is not the JSON that is wanted: cannot unmarshal array into Go value of type api.ReloadRequest."},
		{"/v1/reload", `{"label":`, 400, "The body is not the JSON that is wanted: unexpected EOF."},
		{"/v1/reload", `{"label":"a"} {"label":"b"}`, 400, "The body goes on after its JSON object."},
		{"/v1/reload", `{"confirm":"10"}`, 400, `The body is not the JSON that is wanted: time: missing unit in duration "10".`},
		{"/v1/reload", `{"reason":"` + strings.Repeat("x", api.MaxBody) + `"}`, 413, "The body is larger than 65536 bytes."},
		{"/v1/reload", `{"reason":"` + strings.Repeat("x", 1025) + `"}`, 400, "The reason is too long: 1024 bytes are the limit."},
		{"/v1/reload", `{"label":"` + strings.Repeat("x", 65) + `"}`, 400, "The label is too long: 64 bytes are the limit."},
		{"/v1/reload", `{"until":"tomorrow"}`, 400, `until can be "serving" or "baked".`},
		{"/v1/reload", `{"binary":"bin/shop"}`, 400, "binary has to be an absolute path: the master does not know your directory."},
		{"/v1/reload", `{"confirm":"-1s"}`, 400, "confirm cannot be negative."},
		{"/v1/reload", `{"canary":"5%","skip_canary":true}`, 400, "canary gives this reload steps and skip_canary takes them away: send one of them."},
		{"/v1/pause", `{"reason":"` + strings.Repeat("x", 1025) + `"}`, 400, "The reason is too long: 1024 bytes are the limit."},
		{"/v1/pause", `{"all":true}`, 400, `There is no field "all"; there are reason.`},
		{"/v1/hold", `{"reason":" "}`, 400, "A hold needs a reason: the next one who wants to reload will ask for it."},
		{"/v1/scale", `{}`, 400, "processes has to be at least 1; POST /v1/stop ends a service."},
		{"/v1/scale", `{"processes":65}`, 400, "processes can be at most 64."},
		{"/v1/upgrade", `{"binary":"masterd"}`, 400, "binary has to be an absolute path: the master does not know your directory."},
		{"/v1/stop", `{"now":true,"patient":true}`, 400, "A stop cannot be both now and patient."},
	} {
		code, body := s.do("POST", c.path, c.body)
		if got := sentence(t, body); code != c.code || got != c.want {
			t.Errorf("%s %.60s is answered %d %s\nwant %d %s", c.path, c.body, code, got, c.code, c.want)
		}
	}
	if calls := b.Calls(); len(calls) != 0 {
		t.Errorf("the backend was asked %+v", calls)
	}
}

func TestProductionIsNotStoppedByASlip(t *testing.T) {
	b := &admintest.Backend{}
	s := begin(t, b, func(o *Options) { o.Environment = "production" })
	for _, c := range []struct {
		body string
		code int
		want string
	}{
		{``, 409, "shop is a production service; say its name to stop it: masterd stop --confirm shop."},
		{`{"now":true}`, 409, "shop is a production service; say its name to stop it: masterd stop --confirm shop."},
		{`{"confirm":"blog"}`, 409, "This is shop, not blog; nothing was stopped."},
	} {
		code, body := s.do("POST", "/v1/stop", c.body)
		if got := sentence(t, body); code != c.code || got != c.want {
			t.Errorf("%s is answered %d %s", c.body, code, got)
		}
	}
	if calls := b.Calls(); len(calls) != 0 {
		t.Errorf("the backend was asked %+v", calls)
	}
	if code, _ := s.do("POST", "/v1/stop", `{"confirm":"shop"}`); code != 200 || len(b.Calls()) != 1 {
		t.Errorf("with its name said it is answered %d", code)
	}
}

func TestBackendErrors(t *testing.T) {
	for _, c := range []struct {
		path string
		err  error
		code int
		body string
	}{
		{"/v1/reload", &api.Problem{Status: 422, Message: "shop.yaml:3: no such key.", Result: api.ResultFailed}, 422, `{"error":"shop.yaml:3: no such key.","result":"failed"}`},
		{"/v1/versions/1/pin", timeoutError{}, 500, `{"error":"too slow"}`},
	} {
		s := begin(t, &admintest.Backend{Change: func(admintest.Call) (<-chan api.Event, error) { return nil, c.err }}, nil)
		if code, body := s.do("POST", c.path, ""); code != c.code || body != c.body {
			t.Errorf("answered %d %s", code, body)
		}
	}
}

type timeoutError struct{}

func (timeoutError) Error() string { return "too slow" }
