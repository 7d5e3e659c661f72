package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"syscall"
)

// FaultKind says how a talk with a master failed, for those who must tell
// "nothing happened" from "nobody knows".
type FaultKind uint8

const (
	// NoMaster: nobody listens there. Nothing happened.
	NoMaster FaultKind = iota + 1
	// Denied: the kernel does not let this user connect. Nothing happened.
	Denied
	// Busy: somebody listens but takes no more connections. Nothing happened.
	Busy
	// Unreachable: no connection could be made, for a reason that has nothing to
	// do with the master. Nothing happened.
	Unreachable
	// Broken: the connection ended before the answer did. What was asked may
	// have happened, may be happening, or may never happen.
	Broken
	// Expired: the caller's context ended first. As Broken, but by our own hand.
	Expired
	// Untrusted: who listens there is not believed (see [Client.Trust]). Nothing
	// was asked, nothing happened.
	Untrusted
)

// Fault is a talk with a master that failed below the API. What the master
// itself refuses is a [Problem].
type Fault struct {
	Kind   FaultKind
	Socket string // path
	Err    error  // never nil
}

func (f *Fault) Error() string {
	switch f.Kind {
	case NoMaster:
		return fmt.Sprintf("no master is running behind %s", f.Socket)
	case Denied:
		return fmt.Sprintf("the system does not let you talk to the master behind %s: %v", f.Socket, f.Err)
	case Busy:
		return fmt.Sprintf("the master behind %s takes no more connections: %v", f.Socket, f.Err)
	case Unreachable:
		return fmt.Sprintf("cannot connect to %s: %v", f.Socket, f.Err)
	case Untrusted:
		return fmt.Sprintf("nothing was asked of who listens on %s: %v", f.Socket, f.Err)
	case Expired:
		return fmt.Sprintf("gave up waiting for the master behind %s: %v", f.Socket, f.Err)
	}
	return fmt.Sprintf("the connection to the master behind %s broke: %v", f.Socket, f.Err)
}

func (f *Fault) Unwrap() error { return f.Err }

func isBroken(err error) bool {
	var f *Fault
	return errors.As(err, &f) && f.Kind == Broken
}

// dialFault tells why a connection could not be made.
func dialFault(ctx context.Context, socket string, err error) *Fault {
	kind := Unreachable
	switch {
	case ctx.Err() != nil:
		kind, err = Expired, context.Cause(ctx)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOTDIR):
		kind = NoMaster
	case errors.Is(err, fs.ErrPermission):
		kind = Denied
	case errors.Is(err, syscall.EAGAIN):
		kind = Busy
	}
	return &Fault{Kind: kind, Socket: socket, Err: err}
}

// talkFault tells why a connection that was made did not bring an answer.
func talkFault(ctx context.Context, socket string, err error) *Fault {
	var f *Fault
	switch {
	case errors.As(err, &f):
		return f
	case ctx.Err() != nil:
		return &Fault{Kind: Expired, Socket: socket, Err: context.Cause(ctx)}
	case errors.Is(err, io.EOF):
		err = io.ErrUnexpectedEOF
	}
	return &Fault{Kind: Broken, Socket: socket, Err: err}
}
