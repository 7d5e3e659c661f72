// Package rollout decides and never acts.
//
// A [Machine] is told facts ([Event], past tense) with the time at which they
// were noticed and answers with ordered imperatives ([Command]). It starts no
// goroutine, reads no clock, opens nothing: whoever drives it does all of that
// and tells it what came of it. That makes every decision of masterd, from the
// first start to the last drain, something that can be replayed from a
// transcript or a seed.
//
// The package imports the standard library only, and of it neither os, net,
// sync nor context.
package rollout
