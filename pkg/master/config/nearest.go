package config

import "strings"

// nearest is the candidate that was probably meant by word; empty when none is
// near enough to be a likely slip.
func nearest(word string, candidates []string) string {
	word = strings.ToLower(word)
	best, bestAt := "", 1+max(1, min(len(word), maxWord)/3)
	for _, c := range candidates {
		if d := distance(word, strings.ToLower(c)); d < bestAt {
			best, bestAt = c, d
		}
	}
	return best
}

// maxWord is the longest word, in bytes, that is compared with others.
const maxWord = 64

// distance is how many letters must be changed, put in, left out or swapped
// with their neighbour to make b of a. "_" and "-" are the same letter.
func distance(a, b string) int {
	if len(a) > maxWord || len(b) > maxWord {
		return maxWord
	}
	fold := strings.NewReplacer("-", "_", " ", "_")
	a, b = fold.Replace(a), fold.Replace(b)
	before := make([]int, len(b)+1) // two rows up, for swaps
	above := make([]int, len(b)+1)
	for j := range above {
		above[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(above[j]+1, row[j-1]+1, above[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, above = above, row
	}
	return above[len(b)]
}
