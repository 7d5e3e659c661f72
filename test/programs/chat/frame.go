package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/gobwas/ws"
)

// maxFrame bounds what is read of one message, its fragments' headers included.
const maxFrame = 2 * maxMessage

var errTooLarge = fmt.Errorf("a message has at most %d bytes", maxMessage)

// frames takes WebSocket messages out of what was read. What it has not given
// out it still has, byte for byte as it came: that is what another process needs
// to go on from here.
type frames struct {
	raw []byte // what was read and is not used
}

// next is the next thing that is whole: a message (its fragments put together),
// or a control frame. A message stays in raw until used is called; a control
// frame is gone, also from between fragments. ok: there was one.
func (f *frames) next() (op ws.OpCode, payload []byte, used func(), ok bool, err error) {
	var msg []byte
	for at, first := 0, true; ; first = false {
		h, n, err := header(f.raw[at:])
		if err != nil || n == 0 {
			return 0, nil, nil, false, err
		}
		if h.Length > maxMessage || len(msg)+int(h.Length) > maxMessage || at > maxFrame {
			return 0, nil, nil, false, errTooLarge
		}
		state := ws.StateServerSide
		if !first {
			state |= ws.StateFragmented
		}
		if err := ws.CheckHeader(h, state); err != nil {
			return 0, nil, nil, false, err
		}
		end := at + n + int(h.Length)
		if len(f.raw) < end {
			return 0, nil, nil, false, nil
		}
		body := slices.Clone(f.raw[at+n : end])
		ws.Cipher(body, h.Mask, 0)
		if h.OpCode.IsControl() {
			f.raw = slices.Delete(f.raw, at, end)
			return h.OpCode, body, func() {}, true, nil
		}
		if first {
			op = h.OpCode
		}
		msg = append(msg, body...)
		if at = end; h.Fin {
			return op, msg, func() { f.raw = slices.Delete(f.raw, 0, end) }, true, nil
		}
	}
}

// header reads one; n is its length, zero: it is not whole.
func header(b []byte) (h ws.Header, n int, err error) {
	in := bytes.NewReader(b)
	h, err = ws.ReadHeader(in)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return h, 0, nil
	}
	return h, len(b) - in.Len(), err
}

// frame is one of a server's.
func frame(op ws.OpCode, payload []byte) []byte {
	b := []byte{0x80 | byte(op)}
	switch n := len(payload); {
	case n < 126:
		b = append(b, byte(n))
	case n <= 0xffff:
		b = binary.BigEndian.AppendUint16(append(b, 126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 127), uint64(n))
	}
	return append(b, payload...)
}
