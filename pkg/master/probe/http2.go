package probe

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// maxFrames is how many frames are read for one answer.
const maxFrames = 1000

// http2 makes the request as the only stream of a connection. A transport of
// the standard library would do, but it leaves a goroutine to die after the
// check and costs more than the check itself.
func (r *request) http2(stream io.ReadWriter, hurry func()) (answer, error) {
	var out bytes.Buffer
	out.WriteString(http2.ClientPreface)
	framer := http2.NewFramer(&out, &io.LimitedReader{R: stream, N: maxAnswer})
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	framer.MaxHeaderListSize = 64 << 10
	if err := r.opening(framer); err != nil {
		return answer{}, err
	}
	send := func() error {
		_, err := out.WriteTo(stream)
		return err
	}
	if err := send(); err != nil {
		return answer{}, err
	}

	var a answer
	for range maxFrames {
		frame, err := framer.ReadFrame()
		if err != nil {
			if a.status != 0 { // the rest of the body never came
				return a, nil
			}
			return answer{}, err
		}
		ended := false
		switch f := frame.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				err = framer.WriteSettingsAck()
			}
		case *http2.PingFrame:
			if !f.IsAck() {
				err = framer.WritePing(true, f.Data)
			}
		case *http2.MetaHeadersFrame:
			if f.StreamID == 1 && a.status == 0 {
				status, _ := strconv.Atoi(f.PseudoValue("status"))
				if status >= 200 {
					a.status = status
					for _, h := range f.RegularFields() {
						if h.Name == "location" && status/100 == 3 {
							a.location = h.Value
						}
					}
					hurry()
				}
			}
			ended = f.StreamID == 1 && f.StreamEnded()
		case *http2.DataFrame:
			a.body = append(a.body, f.Data()...)[:min(len(a.body)+len(f.Data()), 4*maxShown)]
			ended = f.StreamEnded()
		case *http2.RSTStreamFrame:
			if a.status == 0 {
				return answer{}, fmt.Errorf("the worker reset the stream: %s", f.ErrCode)
			}
			ended = true
		case *http2.GoAwayFrame:
			if f.LastStreamID < 1 {
				return answer{}, fmt.Errorf("the worker sent GOAWAY: %s", f.ErrCode)
			}
		}
		if err == nil {
			err = send()
		}
		if ended && a.status != 0 {
			_ = framer.WriteGoAway(0, http2.ErrCodeNo, nil)
			_ = send() // a courtesy
			return a, nil
		}
		if err != nil {
			return answer{}, err
		}
	}
	return answer{}, fmt.Errorf("more than %d frames without an end", maxFrames)
}

// opening writes the settings and the request.
func (r *request) opening(framer *http2.Framer) error {
	if err := framer.WriteSettings(http2.Setting{ID: http2.SettingEnablePush, Val: 0}); err != nil {
		return err
	}
	scheme := "http"
	if r.tls != nil {
		scheme = "https"
	}
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	fields := [][2]string{{":method", r.method}, {":scheme", scheme}, {":authority", r.host}, {":path", r.path}}
	for _, kv := range r.headers {
		fields = append(fields, [2]string{strings.ToLower(kv[0]), kv[1]})
	}
	for _, kv := range fields {
		if err := enc.WriteField(hpack.HeaderField{Name: kv[0], Value: kv[1]}); err != nil {
			return err
		}
	}
	if block.Len() > 16384 { // the greatest frame that every peer takes
		return fmt.Errorf("the headers of the check take %d bytes, at most 16384 fit in one HTTP/2 frame", block.Len())
	}
	return framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true})
}
