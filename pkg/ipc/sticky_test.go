package ipc

import (
	"encoding/binary"
	"math"
	"net/netip"
	"testing"
)

// A worker and a master of other versions, and the kernel, must agree: these never change.
func TestStickyHash(t *testing.T) {
	for _, c := range []struct {
		salt uint32
		addr string
		want uint32
	}{
		{0x0, "0.0.0.0", 0x00000000},
		{0x0, "127.0.0.1", 0xc44a808b},
		{0x0, "192.0.2.1", 0xd7423d9e},
		{0x0, "255.255.255.255", 0x81f16f39},
		{0x0, "::", 0x00000000},
		{0x0, "::1", 0x514e28b7},
		{0x0, "2001:db8::1", 0x7123bc7a},
		{0x0, "2001:db8:1:2:3:4:5:6", 0x1f929f0b},
		{0x1, "0.0.0.0", 0x2fef5c8f},
		{0x1, "127.0.0.1", 0x15ced232},
		{0x1, "192.0.2.1", 0xb283f701},
		{0x1, "255.255.255.255", 0x9ecab4c2},
		{0x1, "::", 0x5ce6c067},
		{0x1, "::1", 0x2cb45c64},
		{0x1, "2001:db8::1", 0x664313b5},
		{0x1, "2001:db8:1:2:3:4:5:6", 0x4ebcac50},
		{0x9e3779b9, "0.0.0.0", 0xaa3e5b61},
		{0x9e3779b9, "127.0.0.1", 0x4e3b4936},
		{0x9e3779b9, "192.0.2.1", 0x25b9e364},
		{0x9e3779b9, "255.255.255.255", 0x82f01567},
		{0x9e3779b9, "::", 0x5fe58a94},
		{0x9e3779b9, "::1", 0x363341a3},
		{0x9e3779b9, "2001:db8::1", 0xa2f8bfa3},
		{0x9e3779b9, "2001:db8:1:2:3:4:5:6", 0xa06b329d},
		{0xffffffff, "0.0.0.0", 0xe2f916b5},
		{0xffffffff, "127.0.0.1", 0x756a5c01},
		{0xffffffff, "192.0.2.1", 0xf5d4e919},
		{0xffffffff, "255.255.255.255", 0xce2d4699},
		{0xffffffff, "::", 0x7cbc0007},
		{0xffffffff, "::1", 0xf2397857},
		{0xffffffff, "2001:db8::1", 0xbafbdf84},
		{0xffffffff, "2001:db8:1:2:3:4:5:6", 0x86d71410},
		{1, "::ffff:192.0.2.1", 0xb283f701},
		{1, "fe80::1%eth0", 0xe72b5272},
	} {
		if got := StickyHash(c.salt, netip.MustParseAddr(c.addr)); got != c.want {
			t.Errorf("{%#x, %q, %#08x},", c.salt, c.addr, got)
		}
	}
	if got, want := StickyHash(9, netip.Addr{}), StickyHash(9, netip.IPv6Unspecified()); got != want {
		t.Errorf("no address is %#x, :: is %#x", got, want)
	}
}

// Clients are often neighbours. Of each kind of neighbourhood, and for each salt, a share has
// as many as it should, and another salt chooses others.
func TestStickyHashSpreads(t *testing.T) {
	const clients = 1 << 14
	near := map[string]func(i uint32) netip.Addr{
		"IPv4 hosts":     func(i uint32) netip.Addr { return v4(10<<24 + i) },
		"IPv4 networks":  func(i uint32) netip.Addr { return v4(10<<24 + i<<8 + 1) },
		"IPv4 reversed":  func(i uint32) netip.Addr { return v4(i<<18 + 7) },
		"IPv6 hosts":     func(i uint32) netip.Addr { return v6(0x20010db8, 0, 0, i) },
		"IPv6 networks":  func(i uint32) netip.Addr { return v6(0x20010db8, i, 0, 1) },
		"IPv6 customers": func(i uint32) netip.Addr { return v6(0x20010000+i, 0, 0, 1) },
		"IPv6 MACs":      func(i uint32) netip.Addr { return v6(0xfe800000, 0, 0x021122ff, 0xfe000000+i) },
		"IPv6 both ends": func(i uint32) netip.Addr { return v6(0x20010db8, i, 0, i) },
	}
	for name, addr := range near {
		for salt := uint32(1); salt <= 50; salt++ {
			for _, part := range []uint64{100, 1000, 5000} {
				p := float64(part) / 10000
				below, both, bound := 0, 0, StickyBound(part, 10000)
				for i := range uint32(clients) {
					if uint64(StickyHash(salt, addr(i))) >= bound {
						continue
					}
					below++
					if uint64(StickyHash(salt+1, addr(i))) < bound {
						both++
					}
				}
				for what, got := range map[string][2]float64{"chosen": {float64(below), p}, "chosen twice": {float64(both), p * p}} {
					n, p := got[0], got[1]
					if off := math.Abs(n-clients*p) / math.Sqrt(clients*p*(1-p)); off > 6 {
						t.Errorf("%s, salt %d: %v of %d are %s, which is %.1f standard deviations off", name, salt, n, clients, what, off)
					}
				}
			}
		}
	}
}

func v4(a uint32) netip.Addr {
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, a)))
}

func v6(words ...uint32) netip.Addr {
	var b []byte
	for _, w := range words {
		b = binary.BigEndian.AppendUint32(b, w)
	}
	return netip.AddrFrom16([16]byte(b))
}

func TestStickyBound(t *testing.T) {
	for _, c := range []struct{ part, whole, want uint64 }{
		{1, 10000, 429496},
		{5000, 10000, 1 << 31},
		{9999, 10000, 4294537799},
		{10000, 10000, 1 << 32},
		{1, 3, 1431655765},
		{1 << 62, 1<<63 - 1, 1<<31 + 0},
	} {
		if got := StickyBound(c.part, c.whole); got != c.want {
			t.Errorf("%d/%d is %d, want %d", c.part, c.whole, got, c.want)
		}
	}
}
