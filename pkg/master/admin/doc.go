// Package admin answers the service's operators: HTTP/JSON under /v1 over the
// Unix socket in the service's runtime directory.
//
// It decides who may ask and says no in whole sentences; what is asked is the
// [Backend]'s affair. Types are those of package api, and openapi.yaml beside
// them describes all of it.
//
// # Who may
//
// Peers are known by what the kernel says of them: their uid and all their
// groups. Root, the master's own user and members of the operators' group may
// do everything, members of the readers' group may look, everybody else is
// refused. With no group configured the socket's mode is 0600. As soon as there
// is one it is 0666: a socket has a single group, so the kernel could never let
// in both readers and operators, and whoever it refuses is not told why. What
// the mode no longer guards, the check of each connection does.
//
// # What a flood costs
//
// Connections are bounded for each user, and in all for those who may do no more
// than look, than change, than anything: who may do more finds a place, whatever
// the others do, and one too many is told to try again. Headers, bodies and idle
// connections have deadlines, and a peer that does not read its answer loses it.
package admin
