// Package analysistest is for those who count how often a verdict is wrong.
package analysistest

import "math"

// Wilson is the 95 % interval of a share of which k of n were found (Wilson, Probable Inference,
// the Law of Succession, and Statistical Inference, 1927). n is at least 1.
func Wilson(k, n int) (low, high float64) {
	const z = 1.96
	p, m := float64(k)/float64(n), float64(n)
	mid, half := p+z*z/(2*m), z*math.Sqrt(p*(1-p)/m+z*z/(4*m*m))
	return max(0, (mid-half)/(1+z*z/m)), (mid + half) / (1 + z*z/m)
}
