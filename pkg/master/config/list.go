package config

import (
	"slices"
	"strings"
	"sync"

	"go.yaml.in/yaml/v3"

	"github.com/masterd/masterd/pkg/ipc"
)

// shortList is a list of sections that is one setting: it is shown in one line, and another order
// is another value.
type shortList struct {
	path    string
	example string // of an item, as it would be written in the file
	most    int    // items
	// meant is an item of which only one value was written; empty: it is not.
	meant func(*yaml.Node) string
	set   func(c *Config, items int)
	items func(c *Config) []any // pointers to them
	show  func(c *Config) string
}

// shortLists are all of them.
var shortLists = sync.OnceValue(func() []shortList {
	return []shortList{
		listOf(func(c *Config) *[]Step { return &c.Rollout.Canary.Steps }, showStep,
			shortList{path: stepsPath, example: "- weight: 5%", most: maxSteps, meant: meantStep}),
		listOf(func(c *Config) *[]Measure { return &c.Rollout.Analysis.Measures }, showMeasure,
			shortList{path: measuresPath, example: "- name: orders_failed", most: ipc.MaxCompared, meant: meantMeasure}),
	}
})

// shortListAt is the one with this path; false: it is another list.
func shortListAt(path string) (shortList, bool) {
	all := shortLists()
	i := slices.IndexFunc(all, func(l shortList) bool { return l.path == path })
	if i < 0 {
		return shortList{}, false
	}
	return all[i], true
}

// listOf completes a list whose items are of one type.
func listOf[T any](of func(*Config) *[]T, show func(T) string, l shortList) shortList {
	l.set = func(c *Config, items int) {
		if items > 0 {
			*of(c) = make([]T, items)
		}
	}
	l.items = func(c *Config) (all []any) {
		for i := range *of(c) {
			all = append(all, &(*of(c))[i])
		}
		return all
	}
	l.show = func(c *Config) string {
		var all []string
		for _, item := range *of(c) {
			all = append(all, "{"+show(item)+"}")
		}
		return "[" + strings.Join(all, ", ") + "]"
	}
	return l
}
