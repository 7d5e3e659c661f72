package sockdiag

import (
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"
)

// Whatever length the kernel's answer has, it is a socket that is meant or none.
func FuzzParse(f *testing.F) {
	m := make([]byte, message)
	m[0], m[1] = unix.AF_INET, Listen
	binary.BigEndian.PutUint16(m[4:], 8080)
	attribute := binary.NativeEndian.AppendUint16(binary.NativeEndian.AppendUint16(nil, 12), info)
	f.Add(m, uint16(8080), false)
	f.Add(append(append(m, attribute...), 1, 0, 0, 0, 0, 0, 0, 0), uint16(0), true)
	f.Add(append(append(m, attribute...), 1), uint16(0), true)
	f.Add(m[:20], uint16(1), true)
	f.Fuzz(func(t *testing.T, m []byte, port uint16, info bool) {
		s, ok := parse(m, Query{Port: port, Info: info})
		if ok && (port != 0 && s.Local.Port() != port || s.Info != nil && !info || s.Expires < 0 || !s.Local.Addr().IsValid()) {
			t.Errorf("%+v", s)
		}
	})
}
