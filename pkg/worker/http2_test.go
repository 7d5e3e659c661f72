//go:build linux

package worker

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// In HTTP/2 a parked worker's next answer is followed by GOAWAY, and the
// connection ends when its streams have.
func TestGoAwayOnPark(t *testing.T) {
	s := newSlot(t, "http")
	w, k := managed(t, func(w *Worker) { w.Handle("http", pong, H2C()) })
	k.activate(s)
	c := dial(t, s.addr)
	io.WriteString(c.c, http2.ClientPreface)
	fr := http2.NewFramer(c.c, c.br)
	if err := fr.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	request := func(stream uint32) (goAway bool) {
		t.Helper()
		block.Reset()
		for _, f := range [][2]string{{":method", "GET"}, {":scheme", "http"}, {":authority", "x"}, {":path", "/"}} {
			enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
		}
		if err := fr.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true}); err != nil {
			t.Fatal(err)
		}
		for {
			f, err := fr.ReadFrame()
			if err != nil {
				t.Fatalf("stream %d was not answered: %v", stream, err)
			}
			switch f := f.(type) {
			case *http2.SettingsFrame:
				if !f.IsAck() {
					fr.WriteSettingsAck()
				}
			case *http2.GoAwayFrame:
				goAway = true
			case *http2.DataFrame:
				if f.StreamEnded() {
					return goAway
				}
			}
		}
	}
	if request(1) {
		t.Fatal("GOAWAY while active")
	}
	k.park()
	said := request(3)
	for !said {
		f, err := fr.ReadFrame()
		if err != nil {
			t.Fatalf("no GOAWAY after park: %v", err)
		}
		_, said = f.(*http2.GoAwayFrame)
	}
	for {
		if _, err := fr.ReadFrame(); err != nil {
			if !errors.Is(err, io.EOF) {
				t.Errorf("the connection ended with %v", err)
			}
			break
		}
	}
	k.drain(0)
	k.drained()
	w.wait()
}
