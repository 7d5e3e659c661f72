// Package man holds the manual page that masterd prints itself. The page is made from
// the verbs and flags by the tests of cmd/masterd, which write it anew and hold it
// against them.
package man

import _ "embed" // the page

// Masterd is masterd(8), in roff.
//
//go:embed masterd.8
var Masterd string
