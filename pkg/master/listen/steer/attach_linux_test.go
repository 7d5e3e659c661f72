package steer

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

func TestTheLargestProgramIsTaken(t *testing.T) {
	fd, err := Bind(netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), 0), false, true)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	program, _ := largest()
	if err := Attach(fd, program); err != nil {
		t.Error(err)
	}
}
