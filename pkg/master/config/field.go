package config

import (
	"fmt"
	"maps"
	"reflect"
	"strings"
)

// field is one key of one Config, brought together by the tags of its structs.
// Reading, showing and comparing all go by it.
type field struct {
	path string // concrete: "listeners[1].name"
	key  Key
	// *string, *int, *uint32, *uint64, *float64, *bool, *time.Duration, *[]string, *[][]string,
	// *map[string]string or *[]StatusRange
	ptr any
}

// fields are all keys that have a value in c, in the order of the schema. A
// check that is not used has none.
func (s schema) fields(c *Config) []field {
	ptrs := pointers(c, "")
	var all []field
	for _, k := range s.keys {
		switch {
		case k.Type == Section || k.Type == List:
		case strings.HasPrefix(k.Path, "health.http.") && c.Health.HTTP == nil:
		case strings.HasPrefix(k.Path, "health.tcp.") && c.Health.TCP == nil:
		case strings.Contains(k.Path, "[]."):
		default:
			all = append(all, field{k.Path, k, ptrs[k.Path]})
		}
		if k.Path == "listeners" {
			for i := range c.Listeners {
				all = append(all, s.itemFields(k.Path, i, &c.Listeners[i])...)
			}
		}
		if l, short := shortListAt(k.Path); short {
			for i, item := range l.items(c) {
				all = append(all, s.itemFields(k.Path, i, item)...)
			}
		}
	}
	return all
}

// itemFields are those of one item of a list.
func (s schema) itemFields(list string, i int, item any) []field {
	ptrs := pointers(item, "")
	var all []field
	for _, k := range s.children[list] {
		all = append(all, field{fmt.Sprintf("%s[%d].%s", list, i, k.Name()), k, ptrs[k.Name()]})
	}
	return all
}

// pointers are the fields that the struct v points to has keys for, by their paths
// below prefix. A check that is not used has none.
func pointers(v any, prefix string) map[string]any {
	all := map[string]any{}
	for f, value := range reflect.ValueOf(v).Elem().Fields() {
		path, ok := f.Tag.Lookup("key")
		if !ok || value.Kind() == reflect.Pointer && value.IsNil() {
			continue
		}
		if value.Kind() != reflect.Pointer {
			value = value.Addr()
		}
		if value.Elem().Kind() == reflect.Struct {
			maps.Copy(all, pointers(value.Interface(), prefix+path+"."))
		} else {
			all[prefix+path] = value.Interface()
		}
	}
	return all
}
