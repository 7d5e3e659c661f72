// Package session is the master's side of the control protocol: a [Hub]
// listens on the service's control socket, a [Session] is one worker, through
// all the connections that it makes in its life.
//
// A worker is expected before its process exists, so that its hello never
// comes too early, and forgotten when the process is gone. In between what it
// says comes as [Fact], in order, through one callback. Whoever else connects
// to the socket, and whatever they send, is refused, closed and counted.
package session
