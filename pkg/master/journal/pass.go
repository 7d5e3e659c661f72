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

// Of what a worker prints the master vouches for nothing. So in its lines no key but
// these two holds anything of the worker's, except for a level that it names: a line
// that looks like the master's history is that of a worker to everybody who looks at msg.
const (
	outputMessage = "output" // msg of a worker's lines
	textKey       = "text"   // a line as it was printed
	objectKey     = "app"    // one that is a JSON object
)

// jsonPasser makes objects of workers' lines.
type jsonPasser struct {
	service string
	enc     zapcore.Encoder // as the master's own lines
}

func newJSONPasser(service string) jsonPasser { return jsonPasser{service, jsonEncoder()} }

// pass puts a line beneath what the master knows of it. An object stays as it is, byte
// for byte.
func (p jsonPasser) pass(l api.LogLine, pid int) []byte {
	fields := []zapcore.Field{
		zap.String("service_name", p.service),
		zap.Uint64("generation", l.Generation),
		zap.Uint64("worker", l.Worker),
		zap.String("version", l.Version),
		zap.String("stream", l.Stream),
	}
	if pid != 0 {
		fields = append(fields, zap.Int("worker_pid", pid))
	}
	e := zapcore.Entry{Level: zapcore.InfoLevel, Time: l.At, Message: outputMessage}
	text := strings.Trim(l.Text, jsonSpace)
	switch {
	case l.Stream == "masterd": // the master's own words about the worker's output
		e.Level, e.Message = zapcore.WarnLevel, l.Text
		return encode(p.enc, e, fields)
	case !strings.HasPrefix(text, "{") || !json.Valid([]byte(text)):
		return encode(p.enc, e, append(fields, zap.String(textKey, l.Text)))
	}
	e.Level = levelIn(text)
	out := bytes.TrimSuffix(encode(p.enc, e, fields), []byte("}\n"))
	out = append(out, `,"`+objectKey+`":`...)
	out = append(out, text...)
	return append(out, '}', '\n')
}

// jsonSpace is what may surround a value; other space makes it plain text.
const jsonSpace = " \t\r\n"

// levelIn is the level that an object names, as one of ours.
func levelIn(object string) zapcore.Level {
	var said struct{ Level, Severity, Lvl any }
	if json.Unmarshal([]byte(object), &said) != nil {
		return zapcore.InfoLevel
	}
	for _, v := range []any{said.Level, said.Severity, said.Lvl} {
		name, _ := v.(string)
		switch strings.ToLower(name) {
		case "trace", "debug":
			return zapcore.DebugLevel
		case "warn", "warning":
			return zapcore.WarnLevel
		case "error", "err", "critical", "crit", "alert", "emergency", "fatal", "panic":
			return zapcore.ErrorLevel
		}
	}
	return zapcore.InfoLevel
}

func encode(enc zapcore.Encoder, e zapcore.Entry, fields []zapcore.Field) []byte {
	buf, err := enc.EncodeEntry(e, fields)
	if err != nil { // none of the fields used here can fail
		return nil
	}
	defer buf.Free()
	return bytes.Clone(buf.Bytes())
}

// withNative makes entries of systemd's journal, too: of the line as it is written without
// it where asJSON is set, else as people read it.
func withNative(service string, pass func(api.LogLine, int) line, asJSON bool) func(api.LogLine, int) line {
	return func(l api.LogLine, pid int) line {
		out := pass(l, pid)
		level := zapcore.InfoLevel
		switch {
		case l.Stream == "masterd":
			level = zapcore.WarnLevel
		case strings.HasPrefix(strings.Trim(l.Text, jsonSpace), "{"):
			level = levelIn(l.Text)
		}
		message := whose(l)
		if asJSON {
			message = string(bytes.TrimSuffix(out.text, []byte("\n")))
		}
		out.native = nativeLine(service, level, message, l, pid)
		return out
	}
}

// passConsole is for people: whose line it is, then the line.
func passConsole(l api.LogLine) []byte {
	return fmt.Appendf(nil, "%s  %s\n", l.At.Local().Format(consoleTime), whose(l))
}

func whose(l api.LogLine) string {
	mark := "|"
	switch l.Stream {
	case "stderr":
		mark = "!"
	case "masterd":
		mark = "*"
	}
	return fmt.Sprintf("worker %d (generation %d, %s) %s %s", l.Worker, l.Generation, printable(l.Version), mark,
		printable(l.Text))
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
