package journal

import (
	"slices"
	"strings"
	"time"

	"go.uber.org/zap/zapcore"
)

// core encodes the master's own lines.
type core struct {
	zapcore.LevelEnabler
	enc     zapcore.Encoder
	out     *writer
	service string
	message zapcore.Encoder // of systemd's journal; nil: lines do not go there
	fields  []zapcore.Field // that enc has, for systemd's journal
}

func (c *core) With(fields []zapcore.Field) zapcore.Core {
	with := *c
	with.enc = c.enc.Clone()
	for _, f := range fields {
		f.AddTo(with.enc)
	}
	if c.message != nil {
		with.message = c.message.Clone()
		for _, f := range fields {
			f.AddTo(with.message)
		}
		with.fields = append(slices.Clip(c.fields), fields...)
	}
	return &with
}

func (c *core) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return ce.AddCore(e, c)
	}
	return ce
}

func (c *core) Write(e zapcore.Entry, fields []zapcore.Field) error {
	c.out.put(c.line(e, fields))
	if e.Level > zapcore.ErrorLevel { // the process is about to end
		c.out.flush()
	}
	return nil
}

func (c *core) line(e zapcore.Entry, fields []zapcore.Field) line {
	l := line{text: encode(c.enc, e, fields)}
	if c.message != nil {
		text := strings.TrimSuffix(string(encode(c.message, e, fields)), "\n")
		l.native = nativeEntry(c.service, e.Level, text, append(slices.Clip(c.fields), fields...))
	}
	return l
}

// note is a line about the log itself, for the writer.
func (c *core) note(text string) line {
	return c.line(zapcore.Entry{Level: zapcore.WarnLevel, Time: time.Now(), Message: text}, nil)
}

func (c *core) Sync() error {
	c.out.flush()
	return nil
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
	cfg := consoleConfig()
	if color {
		cfg.EncodeLevel = zapcore.CapitalColorLevelEncoder
	}
	return zapcore.NewConsoleEncoder(cfg)
}

// messageEncoder is for systemd's journal, which has time and level of its own.
func messageEncoder() zapcore.Encoder {
	cfg := consoleConfig()
	cfg.TimeKey, cfg.LevelKey = zapcore.OmitKey, zapcore.OmitKey
	return zapcore.NewConsoleEncoder(cfg)
}

func consoleConfig() zapcore.EncoderConfig {
	return zapcore.EncoderConfig{
		TimeKey:          "timestamp",
		LevelKey:         "level",
		MessageKey:       "msg",
		StacktraceKey:    "stacktrace",
		EncodeTime:       zapcore.TimeEncoderOfLayout(consoleTime),
		EncodeLevel:      zapcore.CapitalLevelEncoder,
		EncodeDuration:   zapcore.StringDurationEncoder,
		ConsoleSeparator: "  ",
	}
}
