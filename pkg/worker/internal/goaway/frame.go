package goaway

import "encoding/binary"

// HTTP/2 frames, as far as leaving needs them: RFC 9113 section 4.1.

const (
	h2Preface   = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" // what a client begins with
	frameHead   = 9                                  // bytes before a frame's payload
	pingLength  = 8                                  // bytes of a PING's payload
	MaxStreamID = 1<<31 - 1                          // "every stream", in a GOAWAY that only warns
)

const (
	frameHeaders      = 0x1
	framePushPromise  = 0x5
	framePing         = 0x6
	frameGoAway       = 0x7
	frameContinuation = 0x9

	flagAck        = 0x1
	flagEndHeaders = 0x4
)

// frames walks along the frames of one direction, in whatever pieces they come.
// It keeps nothing but where it is.
type frames struct {
	head  [frameHead]byte // of the frame at hand, or of the last one
	have  int             // bytes of head that have come; zero: between two frames
	left  int             // bytes of payload that are yet to come
	block bool            // a header block is not complete: only CONTINUATION may follow
}

// step follows the beginning of b, to the end of a head or of a payload at
// most. n is how much that was; head: a frame's head is complete now.
func (f *frames) step(b []byte) (n int, head bool) {
	if f.have == frameHead {
		n = min(len(b), f.left)
		f.left -= n
		if f.left == 0 {
			f.have = 0
		}
		return n, false
	}
	n = copy(f.head[f.have:], b)
	f.have += n
	if f.have < frameHead {
		return n, false
	}
	f.left = int(f.head[0])<<16 | int(f.head[1])<<8 | int(f.head[2])
	switch f.kind() {
	case frameHeaders, framePushPromise, frameContinuation:
		f.block = f.flags()&flagEndHeaders == 0
	}
	if f.left == 0 {
		f.have = 0
	}
	return n, true
}

// skip follows all of b.
func (f *frames) skip(b []byte) {
	for len(b) > 0 {
		n, _ := f.step(b)
		b = b[n:]
	}
}

// nextGap follows b to the first place where another frame may be put, and returns
// how far that is. Without one, f.between() is false and n is all of b.
func (f *frames) nextGap(b []byte) (n int) {
	for !f.atGap() && n < len(b) {
		step, _ := f.step(b[n:])
		n += step
	}
	return n
}

// atGap: another frame may come here. Never within a header block, which one
// decoder reads as one piece.
func (f *frames) atGap() bool { return f.have == 0 && !f.block }

func (f *frames) kind() byte  { return f.head[3] }
func (f *frames) flags() byte { return f.head[4] }

// goAway is a GOAWAY without an error: streams up to last are answered.
func goAway(last uint32) []byte {
	b := make([]byte, frameHead, frameHead+8)
	b[2], b[3] = 8, frameGoAway
	b = binary.BigEndian.AppendUint32(b, last)
	return binary.BigEndian.AppendUint32(b, 0) // NO_ERROR
}

// PingPayload is what our PING carries. net/http's own carry random bytes, and it
// ignores answers to a PING that it did not send.
var PingPayload = [pingLength]byte{'m', 'a', 's', 't', 'e', 'r', 'd', 0}

func ping() []byte {
	b := make([]byte, frameHead, frameHead+pingLength)
	b[2], b[3] = pingLength, framePing
	return append(b, PingPayload[:]...)
}
