package ipc

// States of a worker, as hello tells them. A master treats one that it does
// not know like StateReady.
const (
	StateNew      = "new"      // has not said ready
	StateReady    = "ready"    // has, and was never activated
	StateActive   = "active"   // accepts (it may be paused)
	StateParked   = "parked"   // accepts, background work pauses
	StateDraining = "draining" // is about to leave
)
