package fdpass

import "golang.org/x/sys/unix"

// maxRights is how many descriptors one message can bring, the kernel's SCM_MAX_FD.
const maxRights = 253

// eachControl calls f with each message in received control data, also in data that was
// cut off: what is there is open.
func eachControl(oob []byte, f func(m unix.SocketControlMessage)) {
	for len(oob) >= unix.CmsgLen(0) {
		header, data, rest, err := unix.ParseOneSocketControlMessage(oob)
		if err != nil {
			return
		}
		f(unix.SocketControlMessage{Header: header, Data: data})
		oob = rest
	}
}

// rightsOf are the descriptors in one message.
func rightsOf(m unix.SocketControlMessage) []int {
	if m.Header.Level != unix.SOL_SOCKET || m.Header.Type != unix.SCM_RIGHTS {
		return nil
	}
	m.Data = m.Data[:len(m.Data)&^3] // x/sys panics of a part of one
	fds, _ := unix.ParseUnixRights(&m)
	return fds
}

// rightsIn are the descriptors in received control data.
func rightsIn(oob []byte) (fds []int) {
	eachControl(oob, func(m unix.SocketControlMessage) { fds = append(fds, rightsOf(m)...) })
	return fds
}
