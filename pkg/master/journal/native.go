package journal

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"go.uber.org/zap/zapcore"

	"github.com/masterd/masterd/pkg/api"
)

// native sends entries to systemd's journal by its own protocol, so that they have
// priorities and fields. It is made for the writer's goroutine, which alone may wait for a
// journal that hangs.
//
// go-systemd's Send is not used: its socket is not connected, so that while a journal does
// not read it tries again at once, over and over.
type native struct {
	path string
	conn net.Conn // nil: there is none yet
}

// send sends one entry. A journal that was restarted has another socket.
func (n *native) send(entry []byte) (err error) {
	for range 2 {
		if n.conn == nil {
			if n.conn, err = net.Dial("unixgram", n.path); err != nil {
				n.conn = nil
				return err
			}
		}
		_, err = n.conn.Write(entry)
		if !errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, syscall.ENOTCONN) && !errors.Is(err, syscall.ECONNRESET) {
			return err
		}
		n.close()
	}
	return err
}

func (n *native) close() {
	if n.conn != nil {
		_ = n.conn.Close()
		n.conn = nil
	}
}

// Of each entry; see systemd.journal-fields(7). MASTERD_SERVICE and those after it are the
// master's fields by their names in JSON, in capitals.
const (
	fieldMessage    = "MESSAGE"
	fieldPriority   = "PRIORITY"
	fieldIdentifier = "SYSLOG_IDENTIFIER"
	fieldOurs       = "MASTERD_"
	identifier      = "masterd"
)

// priority is a level as syslog numbers it.
func priority(l zapcore.Level) int {
	switch {
	case l <= zapcore.DebugLevel:
		return 7
	case l == zapcore.InfoLevel:
		return 6
	case l == zapcore.WarnLevel:
		return 4
	case l == zapcore.ErrorLevel:
		return 3
	}
	return 2
}

// nativeEntry is a line of the master's own. Its fields' names are written in this program:
// nothing that a worker says is one.
func nativeEntry(service string, l zapcore.Level, message string, fields []zapcore.Field) []byte {
	m := zapcore.NewMapObjectEncoder()
	for _, f := range fields {
		f.AddTo(m)
	}
	var b bytes.Buffer
	putHead(&b, service, l, message)
	for _, key := range slices.Sorted(maps.Keys(m.Fields)) {
		put(&b, fieldOurs+strings.Map(inName, key), nativeText(m.Fields[key]))
	}
	return b.Bytes()
}

// nativeLine is a line that a worker has printed: a message, whatever is in it.
func nativeLine(service string, level zapcore.Level, message string, l api.LogLine, pid int) []byte {
	var b bytes.Buffer
	putHead(&b, service, level, message)
	put(&b, fieldOurs+"WORKER", strconv.FormatUint(l.Worker, 10))
	put(&b, fieldOurs+"GENERATION", strconv.FormatUint(l.Generation, 10))
	put(&b, fieldOurs+"VERSION", l.Version)
	put(&b, fieldOurs+"STREAM", l.Stream)
	if pid != 0 {
		put(&b, fieldOurs+"WORKER_PID", strconv.Itoa(pid))
	}
	return b.Bytes()
}

func putHead(b *bytes.Buffer, service string, l zapcore.Level, message string) {
	put(b, fieldPriority, strconv.Itoa(priority(l)))
	put(b, fieldIdentifier, identifier)
	put(b, fieldOurs+"SERVICE", service)
	put(b, fieldMessage, message)
}

// put writes a field. A value that could end its line, and with that be more than a value, is
// preceded by its length.
func put(b *bytes.Buffer, name, value string) {
	b.WriteString(name)
	if !strings.ContainsRune(value, '\n') {
		b.WriteByte('=')
	} else {
		b.WriteByte('\n')
		_ = binary.Write(b, binary.LittleEndian, uint64(len(value)))
	}
	b.WriteString(value)
	b.WriteByte('\n')
}

// inName is a letter as it is in the name of a field.
func inName(r rune) rune {
	switch {
	case 'a' <= r && r <= 'z':
		return r - 'a' + 'A'
	case 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
		return r
	}
	return '_'
}

func nativeText(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case fmt.Stringer:
		return v.String()
	}
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(text)
}
