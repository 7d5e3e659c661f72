package steer

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/net/bpf"

	"github.com/masterd/masterd/pkg/ipc"
)

// maxInstructions is BPF_MAXINSNS. Before Linux 6.8 the net.core.optmem_max of a new machine
// was 20480 bytes, and a program, as the kernel translates it, must not be larger.
const (
	maxInstructions = 4096
	optmemMax       = 20480
)

// packet is all that a program sees of one: the network header, and behind it, where the
// kernel has none, its random number.
func packet(source netip.Addr, random uint32) []byte {
	p := make([]byte, randomAt)
	if source.Is4() {
		p[0], p[8] = 0x45, 64
		copy(p[12:], source.AsSlice())
	} else {
		p[0], p[7] = 0x60, 64
		copy(p[8:], source.AsSlice())
	}
	return binary.BigEndian.AppendUint32(p, random)
}

const randomAt = 40

// run is what the kernel makes of a packet. The VM of x/net/bpf has neither of its extensions.
func run(t *testing.T, program []bpf.Instruction) func(packet []byte) uint32 {
	t.Helper()
	program = slices.Clone(program)
	for i, in := range program {
		switch in := in.(type) {
		case bpf.LoadAbsolute:
			in.Off -= networkHeader
			program[i] = in
		case bpf.LoadExtension:
			if in.Num != bpf.ExtRand {
				t.Fatalf("what does the kernel say to %v?", in)
			}
			program[i] = bpf.LoadAbsolute{Off: randomAt, Size: 4}
		}
	}
	vm, err := bpf.NewVM(program)
	if err != nil {
		t.Fatal(err)
	}
	return func(packet []byte) uint32 {
		t.Helper()
		at, err := vm.Run(packet)
		if err != nil {
			t.Fatal(err)
		}
		return uint32(at)
	}
}

// pool is one in which each socket has moved.
func pool(slots int) Group {
	g := Group{IPv4: true, IPv6: true}
	for i := range slots {
		g.Index = append(g.Index, uint32((i+1)%slots))
	}
	return g
}

func random(r *rand.Rand, v6 bool) netip.Addr {
	b := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, r.Uint64()), r.Uint64())
	if v6 {
		return netip.AddrFrom16([16]byte(b))
	}
	return netip.AddrFrom4([4]byte(b[:4]))
}

// The kernel puts a client on the side that ipc.StickyHash does, and within that one it draws.
func TestStickyProgram(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, salt := range []uint32{1, 2, 0xffffffff, 0x80000000} {
		for _, weight := range []uint32{1, 100, 1000, 5000, 9999} {
			// Two on each side, the second with three times as much as the first.
			targets := []Target{{1, 10000 - weight, false}, {2, weight, true}, {3, 3 * (10000 - weight), false}, {4, 3 * weight, true}}
			program := Group{Index: []uint32{0, 1, 2, 3, 4}, IPv4: true, IPv6: true}.Program(targets, salt)
			pick := run(t, program)
			bound := ipc.StickyBound(uint64(weight), 10000)
			for i := range 4000 {
				client := random(r, i%2 == 0)
				for _, random := range []uint32{0, 1<<30 - 1, 1 << 30, 1<<32 - 1} {
					want := uint32(1)
					if uint64(ipc.StickyHash(salt, client)) < bound {
						want = 2
					}
					if random >= 1<<30 {
						want += 2
					}
					if got := pick(packet(client, random)); got != want {
						t.Fatalf("salt %#x, weight %d: %s goes to %d, want %d", salt, weight, client, got, want)
					}
				}
			}
		}
	}
}

// Each bit of an address counts.
func TestStickyProgramReadsAllOfTheAddress(t *testing.T) {
	targets := []Target{{1, 1, false}, {2, 1, true}}
	for _, client := range []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")} {
		for bit := range client.BitLen() {
			b := client.AsSlice()
			b[bit/8] ^= 0x80 >> (bit % 8)
			other, _ := netip.AddrFromSlice(b)
			moved := false
			for salt := uint32(1); salt < 100 && !moved; salt++ {
				pick := run(t, Group{Index: []uint32{0, 1, 2}, IPv4: true, IPv6: true}.Program(targets, salt))
				moved = pick(packet(client, 0)) != pick(packet(other, 0))
			}
			if !moved {
				t.Errorf("%s and %s are one client", client, other)
			}
		}
	}
}

// Where one side has nobody, or no salt is there, each connection draws among all.
func TestDrawsAmongAll(t *testing.T) {
	one, two := Target{1, 1, false}, Target{2, 1, false}
	canary, both := Target{1, 1, true}, Target{2, 1, true}
	for name, c := range map[string]struct {
		targets []Target
		salt    uint32
	}{
		"no salt":        {[]Target{canary, two}, 0},
		"no canary":      {[]Target{one, two}, 7},
		"nothing but it": {[]Target{canary, both}, 7},
	} {
		pick := run(t, Group{Index: []uint32{0, 1, 2}, IPv4: true}.Program(c.targets, c.salt))
		for i := range uint32(1000) {
			client := netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
			if low, high := pick(packet(client, i)), pick(packet(client, ^i)); low != 1 || high != 2 {
				t.Fatalf("%s: %s goes to %d and %d", name, client, low, high)
			}
		}
	}
}

// A reserved client reaches its slot, whatever is steered to, and others like it reach none.
func TestReservedClients(t *testing.T) {
	const slots = 128
	g := pool(slots)
	for _, salt := range []uint32{0, 3} {
		pick := run(t, g.Program([]Target{{200, 1, false}, {201, 1, true}}, salt))
		for slot := range slots + 1 {
			v4, v6 := packet(reservedSource(slot), 0), packet(netip.IPv6Loopback(), 0)
			class, hops := reservedFields(slot)
			v6[0], v6[1], v6[7] = 0x60|byte(class>>4), byte(class<<4), byte(hops)
			for _, p := range [][]byte{v4, v6} {
				switch at := pick(p); {
				case slot < slots && at != g.Index[slot]:
					t.Errorf("salt %d, slot %d of IPv%d: %d, want %d", salt, slot, p[0]>>4, at, g.Index[slot])
				case slot == slots && at < 200:
					t.Errorf("salt %d: slot %d of IPv%d, which is not there, is %d", salt, slot, p[0]>>4, at)
				}
			}
			v6[8] = 0x20 // not from ::1
			if at := pick(v6); at < 200 {
				t.Errorf("salt %d: a client from elsewhere reaches slot %d", salt, at)
			}
		}
		if at := pick(packet(netip.MustParseAddr("127.99.0.0"), 0)); at < 200 {
			t.Errorf("salt %d: the address before the first slot's reaches slot %d", salt, at)
		}
	}
}

// largest is the program for the largest pool that a configuration leads to: 64 workers of
// each generation and as many that drain, each socket in another's place.
func largest() (program []bpf.Instruction, targets int) {
	var all []Target
	for i := range uint32(128) {
		all = append(all, Target{Index: i, Weight: 1 + i%2*99, Canary: i%2 == 0})
	}
	return pool(256).Program(all, 5), len(all)
}

func TestProgramFits(t *testing.T) {
	program, targets := largest()
	if len(program) > maxInstructions {
		t.Errorf("%d instructions", len(program))
	}
	// A return is two of the kernel's own, a jump on a constant up to three, a packet's
	// word up to nine; each has eight bytes.
	size := 0
	for _, in := range program {
		switch in.(type) {
		case bpf.LoadAbsolute:
			size += 9 * 8
		case bpf.JumpIf:
			size += 3 * 8
		case bpf.RetConstant, bpf.RetA, bpf.LoadExtension:
			size += 2 * 8
		default:
			size += 8
		}
	}
	t.Logf("%d instructions, at most %d bytes", len(program), size)
	if size > optmemMax {
		t.Errorf("it may have %d bytes", size)
	}
	pick, r := run(t, program), rand.New(rand.NewPCG(3, 4))
	reached := map[uint32]bool{}
	for i := range 100_000 {
		at := pick(packet(random(r, i%2 == 0), r.Uint32()))
		if at >= 128 {
			t.Fatalf("nobody is at %d", at)
		}
		reached[at] = true
	}
	if len(reached) != targets {
		t.Errorf("%d of %d are reached", len(reached), targets)
	}
}
