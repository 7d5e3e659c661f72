package workertest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Kinds of HTTP/2 frames, their flags, and codes of errors: RFC 9113, sections 6 and 7.
const (
	FrameData         = 0x0
	FrameHeaders      = 0x1
	FrameRSTStream    = 0x3
	FrameSettings     = 0x4
	FramePing         = 0x6
	FrameGoAway       = 0x7
	FrameWindowUpdate = 0x8
	FrameContinuation = 0x9

	FlagAck        = 0x1 // of SETTINGS and PING
	FlagEndStream  = 0x1 // of DATA and HEADERS
	FlagEndHeaders = 0x4
	flagPadded     = 0x8

	NoError         = 0x0
	Cancel          = 0x8
	EnhanceYourCalm = 0xb

	InitialWindowSize = 0x4 // a setting

	frameHead    = 9       // bytes before a payload
	maxFrameSize = 1 << 14 // of a payload, for who has asked for no more
)

// HTTP2Preface is what a client begins with.
const HTTP2Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// Frame is one frame.
type Frame struct {
	Kind, Flags byte
	Stream      uint32
	Payload     []byte
}

// Has tells whether this flag is set.
func (f Frame) Has(flag byte) bool { return f.Flags&flag != 0 }

// Data is the payload of DATA without its padding.
func (f Frame) Data() []byte {
	if !f.Has(flagPadded) {
		return f.Payload
	}
	return f.Payload[1 : len(f.Payload)-int(f.Payload[0])]
}

// GoAway is what GOAWAY says.
func (f Frame) GoAway() (last, code uint32) {
	return binary.BigEndian.Uint32(f.Payload) &^ (1 << 31), binary.BigEndian.Uint32(f.Payload[4:])
}

// ErrorCode is why RST_STREAM ends its stream.
func (f Frame) ErrorCode() uint32 { return binary.BigEndian.Uint32(f.Payload) }

// Framer reads and writes frames, as a client that wants nothing but the defaults. What it
// reads must be a frame that may come there; what it writes may be anything. One goroutine
// reads, any number write.
type Framer struct {
	w     io.Writer
	r     io.Reader
	block uint32 // the stream whose header block is not complete; zero: none is
}

// NewFramer writes to w and reads from r.
func NewFramer(w io.Writer, r io.Reader) *Framer { return &Framer{w: w, r: r} }

// ReadFrame returns the next frame. io.EOF: the connection has ended after a whole one.
func (fr *Framer) ReadFrame() (Frame, error) {
	var head [frameHead]byte
	if _, err := io.ReadFull(fr.r, head[:]); err != nil {
		return Frame{}, err
	}
	size := int(head[0])<<16 | int(head[1])<<8 | int(head[2])
	f := Frame{Kind: head[3], Flags: head[4], Stream: binary.BigEndian.Uint32(head[5:]) &^ (1 << 31)}
	if size > maxFrameSize {
		return f, fmt.Errorf("a frame of kind %d has %d bytes", f.Kind, size)
	}
	f.Payload = make([]byte, size)
	if _, err := io.ReadFull(fr.r, f.Payload); errors.Is(err, io.EOF) {
		return f, io.ErrUnexpectedEOF
	} else if err != nil {
		return f, err
	}
	return f, fr.check(f)
}

// check tells whether the frame may come here, and is as long as its kind has it.
func (fr *Framer) check(f Frame) error {
	ofConnection, fits := false, true
	switch n := len(f.Payload); f.Kind {
	case FrameData:
		fits = !f.Has(flagPadded) || n > 0 && int(f.Payload[0]) < n
	case FrameHeaders, FrameContinuation:
	case FrameRSTStream:
		fits = n == 4
	case FrameSettings:
		ofConnection, fits = true, n%6 == 0 && (n == 0 || !f.Has(FlagAck))
	case FramePing:
		ofConnection, fits = true, n == 8
	case FrameGoAway:
		ofConnection, fits = true, n >= 8
	case FrameWindowUpdate:
		ofConnection, fits = f.Stream == 0, n == 4 && binary.BigEndian.Uint32(f.Payload) != 0
	default:
		return fmt.Errorf("a frame of kind %d", f.Kind)
	}
	switch {
	case !fits:
		return fmt.Errorf("a frame of kind %d, flags %#x, has the payload %x", f.Kind, f.Flags, f.Payload)
	case ofConnection != (f.Stream == 0):
		return fmt.Errorf("a frame of kind %d on stream %d", f.Kind, f.Stream)
	case (f.Kind == FrameContinuation) != (fr.block != 0), fr.block != 0 && fr.block != f.Stream:
		return fmt.Errorf("a frame of kind %d on stream %d, while stream %d has an open header block",
			f.Kind, f.Stream, fr.block)
	}
	if f.Kind == FrameHeaders || f.Kind == FrameContinuation {
		fr.block = f.Stream
		if f.Has(FlagEndHeaders) {
			fr.block = 0
		}
	}
	return nil
}

// WriteFrame writes any frame, by one Write.
func (fr *Framer) WriteFrame(kind, flags byte, stream uint32, payload []byte) error {
	b := make([]byte, frameHead, frameHead+len(payload))
	b[0], b[1], b[2], b[3], b[4] = byte(len(payload)>>16), byte(len(payload)>>8), byte(len(payload)), kind, flags
	binary.BigEndian.PutUint32(b[5:], stream)
	_, err := fr.w.Write(append(b, payload...))
	return err
}

// WriteHeaders opens a stream with these fields; end: it has no body.
func (fr *Framer) WriteHeaders(stream uint32, fields []byte, end bool) error {
	return fr.WriteFrame(FrameHeaders, FlagEndHeaders|flagIf(end, FlagEndStream), stream, fields)
}

// WriteData writes a part of a body; end: its last.
func (fr *Framer) WriteData(stream uint32, end bool, b []byte) error {
	return fr.WriteFrame(FrameData, flagIf(end, FlagEndStream), stream, b)
}

// WriteRSTStream ends a stream for this reason.
func (fr *Framer) WriteRSTStream(stream, code uint32) error {
	return fr.WriteFrame(FrameRSTStream, 0, stream, binary.BigEndian.AppendUint32(nil, code))
}

// WriteSettings writes pairs of a setting's number and its value.
func (fr *Framer) WriteSettings(pairs ...uint32) error {
	var b []byte
	for ; len(pairs) >= 2; pairs = pairs[2:] {
		b = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(b, uint16(pairs[0])), pairs[1])
	}
	return fr.WriteFrame(FrameSettings, 0, 0, b)
}

// WriteSettingsAck answers the server's settings.
func (fr *Framer) WriteSettingsAck() error { return fr.WriteFrame(FrameSettings, FlagAck, 0, nil) }

// WritePing asks, or answers.
func (fr *Framer) WritePing(ack bool, data [8]byte) error {
	return fr.WriteFrame(FramePing, flagIf(ack, FlagAck), 0, data[:])
}

// WriteWindowUpdate lets the server send so much more on the stream (zero: on all together).
func (fr *Framer) WriteWindowUpdate(stream, more uint32) error {
	return fr.WriteFrame(FrameWindowUpdate, 0, stream, binary.BigEndian.AppendUint32(nil, more))
}

func flagIf(is bool, flag byte) byte {
	if is {
		return flag
	}
	return 0
}

// HeaderBlock encodes pairs of a field's name and its value in HPACK's plainest way: each a
// literal that nobody need remember (RFC 7541, section 6.2.2), shorter than 127 bytes.
func HeaderBlock(pairs ...string) []byte {
	var b []byte
	for i, s := range pairs {
		if i%2 == 0 {
			b = append(b, 0)
		}
		b = append(append(b, byte(len(s))), s...)
	}
	return b
}
