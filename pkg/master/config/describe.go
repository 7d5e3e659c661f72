package config

import (
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// orWord names the words that may stand in the place of a section.
func orWord(k Key) string {
	if len(k.Allowed) == 0 {
		return ""
	}
	return "; or the word " + strings.Join(k.Allowed, ", ")
}

// instead says what to write for a scalar without a value.
func instead(k Key) string {
	switch {
	case k.Path == "health.http":
		return "; write none for no check, or {} for its defaults"
	case k.Path == "health.tcp":
		return "; write {} for its defaults"
	case required(k):
		return "; it must be given"
	case k.Default != "":
		return "; remove the key for its default, " + k.Default
	case k.Path == stepsPath+"[].hold":
		return "; remove the key, and the step waits for `masterd promote`"
	}
	return `; remove the key, or write ""`
}

// short bounds a value that is shown in a message.
func short(s string) string {
	if len(s) > maxWord {
		s = s[:maxWord] + "..."
	}
	return strconv.Quote(s)
}

// form names what a node is, for people.
func form(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias"
	}
	switch tag := n.ShortTag(); tag {
	case "!!str":
		return "text"
	case "!!int", "!!float":
		return "a number"
	case "!!bool":
		return "a truth value"
	case "!!null":
		return "nothing"
	case "!!timestamp":
		return "a date"
	default:
		return "of the YAML type " + tag
	}
}

// wanted names what a key takes, for people.
func wanted(k Key) string {
	switch {
	case len(k.Allowed) > 0:
		return "one of " + strings.Join(k.Allowed, ", ")
	case k.Type == Integer:
		return "a whole decimal number"
	case k.Type == Boolean:
		return "true or false"
	case k.Type == Duration:
		return "a duration such as 200ms or 5m"
	case k.Type == Size:
		return "a size such as 128MiB"
	case k.Type == Rate:
		return "a size per second such as 1MiB/s"
	case k.Type == Percent:
		return "a percentage such as 5%"
	case k.Type == Decimal:
		return "a number such as 1.5"
	case k.Type == Statuses:
		return `a status such as 200 or "200-299", or a list of these`
	case k.Type == Path:
		return "a path"
	}
	return "text"
}
