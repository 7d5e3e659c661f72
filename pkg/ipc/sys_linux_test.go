package ipc

import (
	"testing"

	"golang.org/x/sys/unix"
)

// Control data that was cut off anywhere gives the descriptors that are in it.
func FuzzRights(f *testing.F) {
	two := unix.UnixRights(7, 8)
	f.Add(two)
	f.Add(two[:len(two)-5])
	f.Add(append([]byte{two[0] - 1}, two[1:]...)) // a part of a descriptor
	f.Add(append(unix.UnixRights(3), unix.UnixCredentials(&unix.Ucred{Pid: 1})...))
	f.Fuzz(func(t *testing.T, oob []byte) {
		if fds := parseRights(oob); 4*len(fds) > len(oob) {
			t.Errorf("%d descriptors in %d bytes", len(fds), len(oob))
		}
	})
}
