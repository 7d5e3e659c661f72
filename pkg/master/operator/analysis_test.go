package operator

import (
	"testing"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/compare"
)

// Only reloads of an unchanged program whose latency was clear are on record, the newest ones.
func TestLatencyRecord(t *testing.T) {
	end := func(unchanged bool, name, outcome string) api.Entry {
		return api.Entry{Analysis: &api.Analysis{Unchanged: unchanged, Measures: []api.Measure{
			{Name: "orders", Outcome: "fail"}, {Name: name, Outcome: outcome}}}}
	}
	good, bad := end(true, "latency", "pass"), end(true, "latency", "fail")
	ten := []api.Entry{good, good, good, good, good, good, good, good, good, good}
	for name, x := range map[string]struct {
		of     []api.Entry
		want   compare.Record
		proven bool
	}{
		"none":              {nil, compare.Record{}, false},
		"not these":         {[]api.Entry{{}, {Analysis: &api.Analysis{Unchanged: true}}, end(false, "latency", "pass"), end(true, "latency", "inconclusive"), end(true, "errors", "fail")}, compare.Record{}, false},
		"nine":              {ten[1:], compare.Record{Rollouts: 9}, false},
		"ten":               {ten, compare.Record{Rollouts: 10}, true},
		"ten, and others":   {append([]api.Entry{bad, {}}, ten...), compare.Record{Rollouts: 10}, true},
		"the last is wrong": {append(ten[:10:10], bad), compare.Record{Rollouts: 10, Slower: 1}, false},
	} {
		if r := latencyRecord(x.of); r != x.want || r.Proven() != x.proven {
			t.Errorf("%s: %+v", name, r)
		}
	}
}
