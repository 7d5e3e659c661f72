// Package supervisord reads the configuration of supervisord and writes one of
// masterd's for each of its programs. What cannot be carried over is said, key
// by key, with the reason.
package supervisord
