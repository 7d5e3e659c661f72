// Package fdstore keeps descriptors that workers have asked to be kept
// (FDSTORE=1 of sd_notify): the next workers of the service are started with them,
// of whatever generation they are. The keeper holds them beside the master.
//
// A [Store] owns the descriptors that it was given, and hands out duplicates, which
// the caller closes. How many one service may store is the caller's limit.
package fdstore

import (
	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/master/keeper"
)

// HeldPrefix begins the names of all that the keeper holds for this room.
const HeldPrefix = "stored/"

// Max is the most that worker.fd_store may allow.
const Max = 512

// unnamed is what systemd calls a descriptor that was given no name.
const unnamed = "stored"

// Options say who else holds what is stored.
type Options struct {
	Keeper keeper.Holder // holds it beside the store
	Log    *zap.Logger   // may be nil
}

// File is a stored descriptor, for a worker that is started.
type File struct {
	Name string // for LISTEN_FDNAMES
	FD   int    // a duplicate, which the caller closes
}

// meta is what the keeper holds beside a descriptor.
type meta struct {
	Name string `json:"name"`
	Poll bool   `json:"poll"`
}
