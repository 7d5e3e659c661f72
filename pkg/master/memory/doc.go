// Package memory looks at how much of it there is: for the decision whether a
// second generation fits beside the first, and for the status page. All figures
// are bytes. A [Machine] has no state: its methods may be called from any
// goroutine, and read /proc and cgroups each time, so not in the loop.
package memory
