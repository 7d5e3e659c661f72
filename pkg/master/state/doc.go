// Package state keeps what a service must remember from one master to the
// next, and makes sure that there is only one master: the directories, the
// service's lock, and state.json.
package state
