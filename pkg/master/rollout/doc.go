// Package rollout decides and never acts.
//
// A [Machine] is told facts ([Event], past tense) with the time at which they
// were noticed and answers with ordered imperatives ([Command]). It starts no
// goroutine, reads no clock, opens nothing: whoever drives it does all of that
// and tells it what came of it. That makes every decision of masterd, from the
// first start to the last drain, something that can be replayed from a
// transcript (testdata) or from a seed (make sim).
//
// # Rules
//
// These hold in every file of the package:
//
//   - A parked generation keeps accepting on its own slots. No new connection is steered
//     there, so it costs nothing, and the way back is one Steer.
//   - Time alone proves nothing, because a worker that fails shows it only after several
//     checks. So the end of a bake, and of MinReady, waits until every worker has passed a
//     check that was asked after it. A check that both generations fail is held against
//     neither.
//   - A step that comes late counts against nobody. Deadlines (what the machine demands of
//     others) move by the time that was lost, so a machine that was paused kills no worker.
//     Due times (what it does itself) do not move: what is late is done now.
//   - No queue stays open that nobody reads. The machine knows of each slot that had traffic
//     whether somebody accepts there. If nobody does, the master takes what arrives: at once,
//     or when UnavailableAfter is over where a replacement may still come.
//   - Once a stop drains the workers, no slot is steered to.
//   - Connections follow the traffic. Who gives connections to whom follows from phases and
//     confirmed steering alone, and is found anew after every event.
//   - A hold refuses reloads only. Rollback, abort, promote and the machine's own protection
//     go on, because a freeze must not keep anybody from safety.
//
// The package imports the standard library only, and of it neither os, net,
// sync nor context.
package rollout
