package notify

import (
	"testing"

	"golang.org/x/sys/unix"
)

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
		from, fds := parse(oob)
		if 4*len(fds) > len(oob) || from.cred != nil && len(oob) < unix.CmsgLen(unix.SizeofUcred) {
			t.Errorf("%d descriptors and %v in %d bytes", len(fds), from.cred, len(oob))
		}
	})
}
