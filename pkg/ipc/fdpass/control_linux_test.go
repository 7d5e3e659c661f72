package fdpass

import (
	"slices"
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
		if fds := rightsIn(oob); 4*len(fds) > len(oob) {
			t.Errorf("%d descriptors in %d bytes", len(fds), len(oob))
		}
	})
}

// Control data that was cut off anywhere gives what is in it.
func FuzzControl(f *testing.F) {
	cred := unix.UnixCredentials(&unix.Ucred{Pid: 7, Uid: 8, Gid: 9})
	f.Add(cred)
	f.Add(append(unix.UnixRights(3, 4), cred...))
	f.Add(append(cred, unix.UnixRights(3, 4)[:18]...))
	f.Add(append([]byte{unix.SizeofCmsghdr}, cred[1:unix.SizeofCmsghdr]...)) // none of them
	f.Add(append([]byte{cred[0] - 1}, cred[1:]...))
	f.Add(append([]byte{cred[0] - 1}, unix.UnixRights(1, 2, 3)[1:]...))
	f.Fuzz(func(t *testing.T, oob []byte) {
		a := ParseControl(oob)
		if 4*len(a.FDs) > len(oob) || a.Cred != nil && len(oob) < unix.CmsgLen(unix.SizeofUcred) || !slices.Equal(a.FDs, rightsIn(oob)) {
			t.Errorf("%d descriptors and %v in %d bytes", len(a.FDs), a.Cred, len(oob))
		}
	})
}
