// Package unitfile reads units of systemd, a service and the socket that goes with it, and
// writes a configuration of masterd's for them. What cannot be carried over is said, key by
// key, with the reason.
package unitfile
