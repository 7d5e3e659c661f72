// Package memory looks at how much of it there is: for the decision whether a
// second generation fits beside the first, and for the status page.
package memory
