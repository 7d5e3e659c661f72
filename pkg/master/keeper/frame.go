package keeper

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// kind says what a frame is for. The numbers are for ever: a keeper is older or
// newer than its master.
type kind byte

const (
	kindJoin     kind = 1  // master: its version in meta
	kindPut      kind = 2  // master: name, meta, one descriptor
	kindDrop     kind = 3  // master: name
	kindGuard    kind = 4  // master: program, order, perhaps standard error
	kindUnguard  kind = 5  // master
	kindEnd      kind = 6  // master
	kindHeld     kind = 16 // keeper: name, meta, one descriptor
	kindAll      kind = 17 // keeper: its version in meta
	kindReplaced kind = 18 // keeper
	kindNotKept  kind = 19 // keeper: name, and why in meta
	kindAnswer   kind = 20 // keeper: why not in meta; empty: done
)

const (
	version  = 1
	headSize = 5 // kind, length of name, length of meta
	maxFrame = headSize + MaxName + MaxMeta
	maxFDs   = 4 // of one frame
)

// frame is one message.
//
//	kind (1 byte) · length of name (2, big endian) · length of meta (2) · name · meta
type frame struct {
	kind kind
	name string
	meta []byte
}

func (f frame) encode() []byte {
	b := make([]byte, headSize, headSize+len(f.name)+len(f.meta))
	b[0] = byte(f.kind)
	binary.BigEndian.PutUint16(b[1:], uint16(len(f.name)))
	binary.BigEndian.PutUint16(b[3:], uint16(len(f.meta)))
	b = append(b, f.name...)
	return append(b, f.meta...)
}

// decode copies what it keeps of b.
func decode(b []byte) (frame, error) {
	if len(b) < headSize {
		return frame{}, fmt.Errorf("%d bytes are no frame", len(b))
	}
	name, meta := int(binary.BigEndian.Uint16(b[1:])), int(binary.BigEndian.Uint16(b[3:]))
	switch {
	case name > MaxName || meta > MaxMeta:
		return frame{}, fmt.Errorf("a frame with a name of %d bytes and %d more: %d and %d are allowed", name, meta,
			MaxName, MaxMeta)
	case len(b) != headSize+name+meta:
		return frame{}, fmt.Errorf("a frame of %d bytes says it has %d", len(b), headSize+name+meta)
	}
	f := frame{kind: kind(b[0]), name: string(b[headSize : headSize+name])}
	if meta > 0 {
		f.meta = append([]byte(nil), b[headSize+name:]...)
	}
	if (f.kind == kindPut || f.kind == kindDrop || f.kind == kindHeld) && name == 0 {
		return frame{}, errors.New("a frame without a name")
	}
	return f, nil
}

// why is an error as the meta of a frame.
func why(err error) []byte {
	if err == nil {
		return nil
	}
	s := err.Error()
	return []byte(s[:min(len(s), MaxMeta)])
}
