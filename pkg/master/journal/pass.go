package journal

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/masterd/masterd/pkg/api"
)

// ownPrefix is put before a key of a worker's that says what only the master
// can know for certain.
const ownPrefix = "own_"

// jsonPasser makes objects of workers' lines.
type jsonPasser struct {
	service string
	whole   zapcore.Encoder // as the master's own lines
	bare    zapcore.Encoder // fields alone
}

func newJSONPasser(service string) jsonPasser {
	return jsonPasser{service, jsonEncoder(), zapcore.NewJSONEncoder(zapcore.EncoderConfig{SkipLineEnding: true})}
}

// pass adds the master's fields to a worker's own object, and makes one of any
// other line.
func (p jsonPasser) pass(l api.LogLine, pid int) []byte {
	if members, ok := membersOf(l.Text); ok {
		return p.merge(l, pid, members)
	}
	e := zapcore.Entry{Level: zapcore.InfoLevel, Time: l.At, Message: l.Text}
	if l.Stream == "masterd" {
		e.Level = zapcore.WarnLevel
	}
	return encode(p.whole, e, append(p.fields(l, pid), zap.String("stream", l.Stream)))
}

// fields are those that a worker cannot set.
func (p jsonPasser) fields(l api.LogLine, pid int) []zapcore.Field {
	fields := []zapcore.Field{
		zap.String("service_name", p.service),
		zap.Uint64("generation", l.Generation),
		zap.Uint64("worker", l.Worker),
		zap.String("version", l.Version),
	}
	if pid != 0 {
		fields = append(fields, zap.Int("pid", pid))
	}
	return fields
}

// merge puts ours before the worker's members, which stay as they are, byte
// for byte. One that has a name of ours is kept under another.
func (p jsonPasser) merge(l api.LogLine, pid int, members []member) []byte {
	fields := p.fields(l, pid)
	ours := make(map[string]bool, len(fields))
	for _, f := range fields {
		ours[f.Key] = true
	}
	timed, leveled := false, false
	for _, m := range members {
		timed = timed || m.key == "timestamp"
		leveled = leveled || m.key == "level" || m.key == "severity" || m.key == "lvl"
	}
	if !leveled {
		fields = append(fields, zap.String("level", "info"))
	}
	if !timed {
		fields = append(fields, zap.String("timestamp", stamp(l.At)))
	}
	out := bytes.TrimSuffix(encode(p.bare, zapcore.Entry{}, fields), []byte{'}'})
	for _, m := range members {
		out = append(out, ',')
		if ours[m.key] {
			out = strconv.AppendQuote(out, ownPrefix+m.key) // our names are plain
		} else {
			out = append(out, m.raw...)
		}
		out = append(out, ':')
		out = append(out, m.value...)
	}
	return append(out, '}', '\n')
}

func encode(enc zapcore.Encoder, e zapcore.Entry, fields []zapcore.Field) []byte {
	buf, err := enc.EncodeEntry(e, fields)
	if err != nil { // none of the fields used here can fail
		return nil
	}
	defer buf.Free()
	return bytes.Clone(buf.Bytes())
}

// member is one of an object's: its key, and the bytes of key and value.
type member struct{ key, raw, value string }

// membersOf lists the members of an object; false if the line is none. What
// json.Valid has vouched for needs no second parser: only the strings must be
// told from the rest.
func membersOf(text string) ([]member, bool) {
	text = strings.TrimSpace(text)
	if !strings.HasPrefix(text, "{") || !json.Valid([]byte(text)) {
		return nil, false
	}
	var members []member
	rest := strings.TrimLeft(text[1:], space)
	for rest[0] != '}' {
		var m member
		n := stringEnd(rest)
		m.raw = rest[:n]
		m.key = m.raw[1 : n-1]
		if strings.IndexByte(m.key, '\\') >= 0 {
			if json.Unmarshal([]byte(m.raw), &m.key) != nil {
				return nil, false
			}
		}
		rest = strings.TrimLeft(rest[n:], space)[1:] // the colon
		n = valueEnd(rest)
		m.value = strings.Trim(rest[:n], space)
		members = append(members, m)
		if rest = rest[n:]; rest[0] == ',' {
			rest = strings.TrimLeft(rest[1:], space)
		}
	}
	return members, true
}

const space = " \t\r\n" // of JSON

// stringEnd is where the string at the beginning of s ends.
func stringEnd(s string) int {
	for i := 1; ; i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
}

// valueEnd is where the comma or brace after the value at the beginning of s is.
func valueEnd(s string) int {
	depth := 0
	for i := 0; ; i++ {
		switch s[i] {
		case '"':
			i += stringEnd(s[i:]) - 1
		case '{', '[':
			depth++
		case ']':
			depth--
		case '}':
			if depth == 0 {
				return i
			}
			depth--
		case ',':
			if depth == 0 {
				return i
			}
		}
	}
}

// passConsole is for people: whose line it is, then the line.
func passConsole(l api.LogLine, _ int) []byte {
	mark := "|"
	switch l.Stream {
	case "stderr":
		mark = "!"
	case "masterd":
		mark = "*"
	}
	return fmt.Appendf(nil, "%s  worker %d (generation %d, %s) %s %s\n",
		l.At.Local().Format(consoleTime), l.Worker, l.Generation, printable(l.Version), mark, printable(l.Text))
}

// printable shows what would move a terminal's cursor, or do worse, instead of
// doing it.
func printable(s string) string {
	if !strings.ContainsFunc(s, commands) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if commands(r) {
			q := strconv.QuoteRune(r)
			b.WriteString(q[1 : len(q)-1])
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

func commands(r rune) bool { return r != '\t' && unicode.IsControl(r) }
