package history

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"

	"github.com/masterd/masterd/pkg/api"
)

// line is an entry as it is written: with its number, from the first of all on, and the
// digest of the line before, as it is in the file but for the newline. Those of older
// masterds have neither.
type line struct {
	api.Entry
	Prev string `json:"prev,omitempty"`
}

// head is the last of the lines so far.
type head struct {
	line   uint64
	digest string // empty: there is none
}

// after is what follows from one more. A line without a number has the next one.
func (h head) after(s scanned) head {
	n := h.line + 1
	if s.line != nil && s.line.N > 0 {
		n = s.line.N
	}
	return head{n, s.digest}
}

// encode makes lines of entries that follow a head, and gives them their numbers. An entry
// cannot fail to encode but by a time outside of all calendars; it is left out then.
func encode(h head, entries []api.Entry) ([]byte, head) {
	var text bytes.Buffer
	for i := range entries {
		e := &entries[i]
		var one bytes.Buffer
		enc := json.NewEncoder(&one)
		enc.SetEscapeHTML(false)
		e.N = h.line + 1
		if enc.Encode(line{*e, h.digest}) != nil {
			e.N = 0
			continue
		}
		text.Write(one.Bytes())
		h = head{h.line + 1, digestOf(bytes.TrimSuffix(one.Bytes(), []byte("\n")))}
	}
	return text.Bytes(), h
}

func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// scanned is a line of a file.
type scanned struct {
	line   *line // nil: it is no entry
	digest string
	length int64 // in bytes, with its newline
	whole  bool  // it has one
}

// scan reads a file from its beginning and hands over its lines.
func scan(f io.ReaderAt, each func(scanned) error) error {
	r := bufio.NewReaderSize(io.NewSectionReader(f, 0, 1<<62), maxLine)
	for {
		sum := sha256.New()
		text, err := r.ReadSlice('\n')
		s := scanned{length: int64(len(text))}
		for errors.Is(err, bufio.ErrBufferFull) { // garbage: pass over it
			sum.Write(text)
			text, err = r.ReadSlice('\n')
			s.length += int64(len(text))
			if !errors.Is(err, bufio.ErrBufferFull) {
				sum.Write(bytes.TrimSuffix(text, []byte("\n")))
				text = nil
			}
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		s.whole = err == nil
		if text != nil {
			text = bytes.TrimSuffix(text, []byte("\n"))
			sum.Write(text)
			var l line
			if json.Unmarshal(text, &l) == nil && !l.At.IsZero() && l.What != "" {
				s.line = &l
			}
		}
		s.digest = hex.EncodeToString(sum.Sum(nil))
		if s.length > 0 {
			if err := each(s); err != nil {
				return err
			}
		}
		if !s.whole {
			return nil
		}
	}
}
