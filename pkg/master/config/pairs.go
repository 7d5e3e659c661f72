package config

import (
	"fmt"

	"go.yaml.in/yaml/v3"
)

const (
	// ownPrefix begins keys at the top that are the file's own: places for anchors.
	ownPrefix = "x-"
	// maxMerged is how many keys one file may bring in by "<<". Aliases could otherwise
	// make millions of a few lines.
	maxMerged = 4096
	maxDepth  = 8 // of mappings that bring in others
)

// pair is one key of a mapping and its value.
type pair struct{ key, value *yaml.Node }

// pairs are the keys of a mapping: those that are written there, and after them those that
// "<<" brings in and are not written there. Of several mappings the first wins.
func (d *document) pairs(n *yaml.Node, at string) []pair {
	return d.pairsWithin(n, at, 0)
}

func (d *document) pairsWithin(n *yaml.Node, at string, depth int) (all []pair) {
	var from []*yaml.Node
	have := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind != yaml.ScalarNode || key.Value != "<<" || key.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0 {
			all = append(all, pair{key, value})
			have[key.Value] = true
			continue
		}
		if depth == maxDepth {
			d.add(key.Line, joinPath(at, "<<"), fmt.Sprintf("more than %d mappings bring in each other; is it one that brings in itself?", maxDepth))
			return all
		}
		sources := []*yaml.Node{deref(value)}
		if sources[0].Kind == yaml.SequenceNode {
			sources = sources[0].Content
		}
		for _, s := range sources {
			if s = deref(s); s.Kind != yaml.MappingNode {
				d.add(key.Line, joinPath(at, "<<"), "brings in "+form(s)+"; it takes keys with values, as an alias of such (*NAME), or a list of these")
				continue
			}
			from = append(from, s)
		}
	}
	for _, s := range from {
		if d.merged > maxMerged {
			if !d.tooMany {
				d.tooMany = true
				d.add(s.Line, joinPath(at, "<<"), fmt.Sprintf("more than %d keys are brought in", maxMerged))
			}
			return all
		}
		d.merged++ // one that is empty takes its time, too
		for _, p := range d.pairsWithin(s, at, depth+1) {
			d.merged++
			if !have[p.key.Value] {
				have[p.key.Value] = true
				all = append(all, p)
			}
		}
	}
	return all
}
