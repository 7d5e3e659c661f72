package journal

import (
	"slices"
	"time"

	"go.uber.org/zap/zapcore"
)

// core encodes the master's own lines.
type core struct {
	zapcore.LevelEnabler
	enc    zapcore.Encoder
	out    *writer
	pid    zapcore.Field // for lines that have none of their own
	hasPID bool
}

func (c *core) With(fields []zapcore.Field) zapcore.Core {
	with := *c
	with.enc = c.enc.Clone()
	for _, f := range fields {
		f.AddTo(with.enc)
	}
	with.hasPID = c.hasPID || hasPID(fields)
	return &with
}

func (c *core) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return ce.AddCore(e, c)
	}
	return ce
}

func (c *core) Write(e zapcore.Entry, fields []zapcore.Field) error {
	if !c.hasPID && !hasPID(fields) {
		fields = append(slices.Clip(fields), c.pid)
	}
	c.out.put(line{text: encode(c.enc, e, fields)})
	if e.Level > zapcore.ErrorLevel { // the process is about to end
		c.out.flush()
	}
	return nil
}

// note is a line about the log itself, for the writer.
func (c *core) note(text string) []byte {
	e := zapcore.Entry{Level: zapcore.WarnLevel, Time: time.Now(), Message: text}
	var fields []zapcore.Field
	if !c.hasPID {
		fields = []zapcore.Field{c.pid}
	}
	return encode(c.enc, e, fields)
}

func (c *core) Sync() error {
	c.out.flush()
	return nil
}

// hasPID: a key that comes twice makes an object that readers understand
// differently.
func hasPID(fields []zapcore.Field) bool {
	return slices.ContainsFunc(fields, func(f zapcore.Field) bool { return f.Key == "pid" })
}

func jsonEncoder() zapcore.Encoder {
	return zapcore.NewJSONEncoder(zapcore.EncoderConfig{
		TimeKey:        "timestamp",
		LevelKey:       "level",
		MessageKey:     "msg",
		StacktraceKey:  "stacktrace",
		EncodeTime:     func(t time.Time, enc zapcore.PrimitiveArrayEncoder) { enc.AppendString(stamp(t)) },
		EncodeLevel:    zapcore.LowercaseLevelEncoder,
		EncodeDuration: zapcore.StringDurationEncoder,
	})
}

const consoleTime = "15:04:05.000" // local: for the person who looks at it now

func consoleEncoder(color bool) zapcore.Encoder {
	cfg := zapcore.EncoderConfig{
		TimeKey:          "timestamp",
		LevelKey:         "level",
		MessageKey:       "msg",
		StacktraceKey:    "stacktrace",
		EncodeTime:       zapcore.TimeEncoderOfLayout(consoleTime),
		EncodeLevel:      zapcore.CapitalLevelEncoder,
		EncodeDuration:   zapcore.StringDurationEncoder,
		ConsoleSeparator: "  ",
	}
	if color {
		cfg.EncodeLevel = zapcore.CapitalColorLevelEncoder
	}
	return zapcore.NewConsoleEncoder(cfg)
}
