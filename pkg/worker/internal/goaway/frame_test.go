package goaway

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/worker/internal/workertest"
)

// script is a connection beneath a filter: what is read comes in pieces, and what
// is written is kept, a part of it at a time.
type script struct {
	net.Conn
	in     []byte
	pieces []byte
	out    bytes.Buffer
	late   bool // the next Read times out, as a deadline in the past has it
}

func (s *script) piece(most int) int {
	if len(s.pieces) == 0 || most == 0 {
		return most
	}
	n := 1 + int(s.pieces[0])
	s.pieces = s.pieces[1:]
	return min(n, most)
}

func (s *script) Read(b []byte) (int, error) {
	if s.late {
		return 0, os.ErrDeadlineExceeded
	}
	n := s.piece(min(len(b), len(s.in)))
	if n == 0 {
		return 0, io.EOF
	}
	copy(b, s.in[:n])
	s.in = s.in[n:]
	return n, nil
}

func (s *script) Write(b []byte) (int, error)       { return s.out.Write(b) }
func (s *script) SetReadDeadline(t time.Time) error { s.late = !t.IsZero(); return nil }
func (s *script) Close() error                      { return nil }

// frameOf makes a frame of three bytes of a script.
func frameOf(kind, flags, size byte) []byte {
	b := make([]byte, frameHead+int(size))
	b[2], b[3], b[4], b[8] = size, kind, flags, 1
	return b
}

// Whatever frames pass in whatever pieces, ours come between two of them, once,
// and nothing else changes.
func FuzzGate(f *testing.F) {
	f.Add([]byte{0, 0, 200, 1, 0, 30, 9, 4, 3, 6, 1, 8}, []byte{0, 8, 3}, 5)
	f.Add([]byte{4, 0, 0, 1, 4, 10, 0, 1, 255}, []byte{}, 100)
	f.Add([]byte{1, 0, 1, 9, 0, 1}, []byte{0, 0, 0, 0}, 12)
	f.Fuzz(func(t *testing.T, frames, pieces []byte, when int) {
		var all []byte
		for ; len(frames) >= 3; frames = frames[3:] {
			all = append(all, frameOf(frames[0]%10, frames[1], frames[2])...)
		}
		if len(all) == 0 {
			return
		}
		when = max(0, when%(len(all)+1))

		// Towards the client.
		s := &script{}
		g := newFilter(s, s, NewTracker())
		ours := append(goAway(MaxStreamID), ping()...)
		cut := &script{in: all, pieces: pieces}
		for wrote := 0; ; {
			if wrote >= when && !g.goawaySent.Swap(true) {
				g.out.enqueue(ours)
			}
			n := cut.piece(len(cut.in))
			if n == 0 {
				break
			}
			if m, err := g.Write(cut.in[:n]); m != n || err != nil {
				t.Fatal(m, err)
			}
			cut.in = cut.in[n:]
			wrote += n
		}
		only(t, s.out.Bytes(), all, ours, !g.out.pending.Load())

		// Towards the server.
		s = &script{in: bytes.Clone(all), pieces: pieces}
		g = newFilter(s, s, NewTracker())
		var got []byte
		for buf := make([]byte, 50); ; {
			if len(got) >= when && !g.shutdownRequested.Load() {
				g.requestShutdown()
			}
			n, err := g.Read(buf[:1+len(got)%len(buf)])
			got = append(got, buf[:n]...)
			if err != nil {
				if !errors.Is(err, io.EOF) {
					t.Fatal(err)
				}
				break
			}
		}
		only(t, got, all, goAway(0), g.injected)
	})
}

// only wants got to be all, with ours in it once, or not at all.
func only(t *testing.T, got, all, ours []byte, put bool) {
	t.Helper()
	if !put {
		if !bytes.Equal(got, all) {
			t.Fatalf("%x became %x", all, got)
		}
		return
	}
	at := 0
	for at < len(all) && got[at] == all[at] {
		at++
	}
	// Ours may begin with bytes that the next frame begins with too.
	for ; at >= 0; at-- {
		if len(got) == len(all)+len(ours) && bytes.Equal(got[:at], all[:at]) && bytes.Equal(got[at:at+len(ours)], ours) && bytes.Equal(got[at+len(ours):], all[at:]) {
			break
		}
	}
	if at < 0 {
		t.Fatalf("%x became %x", all, got)
	}
	if !isGap(all[:at]) {
		t.Fatalf("ours came at %d of %x", at, all)
	}
}

// isGap finds out by another way than frames does whether a frame may follow b.
func isGap(b []byte) bool {
	block := false
	for len(b) > 0 {
		if len(b) < frameHead {
			return false
		}
		size := frameHead + int(b[0])<<16 + int(b[1])<<8 + int(b[2])
		if size > len(b) {
			return false
		}
		if k := b[3]; k == frameHeaders || k == framePushPromise || k == frameContinuation {
			block = b[4]&flagEndHeaders == 0
		}
		b = b[size:]
	}
	return !block
}

// Our frames are what they should be.
func TestOurFrames(t *testing.T) {
	fr := workertest.NewFramer(io.Discard, bytes.NewReader(append(goAway(MaxStreamID), ping()...)))
	f, err := fr.ReadFrame()
	if err != nil || f.Kind != workertest.FrameGoAway {
		t.Fatalf("%+v, %v", f, err)
	}
	if last, code := f.GoAway(); last != MaxStreamID || code != workertest.NoError {
		t.Errorf("%+v", f)
	}
	f, err = fr.ReadFrame()
	if err != nil || f.Kind != workertest.FramePing || f.Has(workertest.FlagAck) || [8]byte(f.Payload) != PingPayload {
		t.Errorf("%+v, %v", f, err)
	}
}
