// Package ipc is the control protocol between a master and its SDK workers:
// frames, messages, passing of descriptors and peer credentials.
//
// PROTOCOL.md beside this file is the specification; it is enough to write a
// client in another language.
package ipc
