package ipc

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWhatIsNotAMessage(t *testing.T) {
	for name, c := range map[string]struct {
		bytes     string
		fds       int
		truncated bool
		want      string
	}{
		"nothing":              {bytes: "", want: "JSON"},
		"not JSON":             {bytes: "GET / HTTP/1.1\r\n\r\n", want: "JSON"},
		"half of one":          {bytes: `{"type":"ready"`, want: "JSON"},
		"two at once":          {bytes: `{"type":"ready"}{"type":"ready"}`, want: "JSON"},
		"a list":               {bytes: `[{"type":"ready"}]`, want: "JSON"},
		"null":                 {bytes: `null`, want: "without a type"},
		"no type":              {bytes: `{"seq":1}`, want: "without a type"},
		"a number for a type":  {bytes: `{"type":1}`, want: "JSON"},
		"a negative seq":       {bytes: `{"type":"ready","seq":-1}`, want: "JSON"},
		"very deep":            {bytes: strings.Repeat(`{"a":`, MaxMessage/5), want: "JSON"},
		"too long":             {bytes: `{"type":"ready","x":"` + strings.Repeat("x", MaxMessage) + `"}`, want: "longer"},
		"cut by the kernel":    {bytes: `{"type":"ready"}`, truncated: true, want: "truncated"},
		"hello without a body": {bytes: `{"type":"hello"}`, want: "needs a hello"},
		"hello without secret": {bytes: `{"type":"hello","hello":{"min":1,"max":1,"worker":1,"pid":1}}`, want: "secret"},
		"hello backwards":      {bytes: `{"type":"hello","hello":{"min":2,"max":1,"worker":1,"pid":1,"secret":"x"}}`, want: "min <= max"},
		"welcome without":      {bytes: `{"type":"welcome","welcome":{"version":1}}`, want: "beat_ms"},
		"reject without why":   {bytes: `{"type":"reject"}`, want: "why"},
		"refused without why":  {bytes: `{"type":"refused","seq":1}`, want: "why"},
		"beat without stats":   {bytes: `{"type":"beat"}`, want: "stats"},
		"accepting what":       {bytes: `{"type":"accepting"}`, want: "seq"},
		"park without seq":     {bytes: `{"type":"park"}`, want: "seq"},
		"drain without bound":  {bytes: `{"type":"drain","seq":1}`, want: "timeout_ms"},
		"drain into the past":  {bytes: `{"type":"drain","seq":1,"drain":{"timeout_ms":-1}}`, want: "timeout_ms"},
		"conn to nobody":       {bytes: `{"type":"conn","seq":1,"conn":{"purpose":"serve"}}`, fds: 1, want: "listener"},
		"conn without fd":      {bytes: `{"type":"conn","seq":1,"conn":{"listener":"http","purpose":"serve"}}`, want: "without a descriptor"},
		"split of nobody":      {bytes: `{"type":"split","seq":1,"split":{"rollout":1,"weight":1}}`, fds: 1, want: "peer"},
		"split of nothing":     {bytes: `{"type":"split","seq":1,"peer":{"worker":1}}`, fds: 1, want: "a split with"},
		"split of weight 0":    {bytes: `{"type":"split","seq":1,"peer":{"worker":1},"split":{"rollout":1}}`, fds: 1, want: "weight"},
		"split of too much":    {bytes: `{"type":"split","seq":1,"peer":{"worker":1},"split":{"rollout":1,"weight":10001}}`, fds: 1, want: "weight"},
		"split into debt":      {bytes: `{"type":"split","seq":1,"peer":{"worker":1},"split":{"rollout":1,"weight":-1}}`, fds: 1, want: "JSON"},
		"split of no rollout":  {bytes: `{"type":"split","seq":1,"peer":{"worker":1},"split":{"weight":1}}`, fds: 1, want: "rollout"},
		"split without a link": {bytes: `{"type":"split","seq":1,"peer":{"worker":1},"split":{"rollout":1,"weight":1}}`, want: "0 descriptors"},
		"compare of nothing":   {bytes: `{"type":"compare","seq":1,"compare":{"since":7}}`, want: "id"},
		"compare in the past":  {bytes: `{"type":"compare","seq":1,"compare":{"id":1,"since":-7}}`, want: "since"},
		"compare never slow":   {bytes: `{"type":"compare","seq":1,"compare":{"id":1,"slow":[{"listener":"a"}]}}`, want: "slow"},
		"compare of no name":   {bytes: `{"type":"compare","seq":1,"compare":{"id":1,"measures":["a-b"]}}`, want: "measures"},
		"compare of too many":  {bytes: `{"type":"compare","seq":1,"compare":{"id":1,"measures":["a","a","a","a","a","a","a","a","a"]}}`, want: "8 measures"},
		"compare of nobody":    {bytes: `{"type":"compare"}`, want: "seq"},
		"split of two links":   {bytes: `{"type":"split","seq":1,"peer":{"worker":1},"split":{"rollout":1,"weight":1}}`, fds: 2, want: "2 descriptors"},
		"two names for one fd": {bytes: `{"type":"activate","seq":1,"activate":{"listeners":["a","b"]}}`, fds: 1, want: "1 descriptors for 2"},
		"fd without a name":    {bytes: `{"type":"activate","seq":1}`, fds: 1, want: "1 descriptors for 0"},
	} {
		m, err := decode([]byte(c.bytes), c.fds, c.truncated)
		var p *ProtocolError
		if !errors.As(err, &p) {
			t.Errorf("%s: is taken as %+v (%v)", name, m, err)
		} else if !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %q does not speak of %q", name, err, c.want)
		}
	}
}

func TestWhatIsNotSent(t *testing.T) {
	for name, c := range map[string]struct {
		message Message
		fds     int
		want    string
	}{
		"no type":        {Message{}, 0, "without a type"},
		"no body":        {Message{Type: TypeHello}, 0, "hello"},
		"too long":       {Message{Type: TypeReject, Text: strings.Repeat("x", MaxMessage)}, 0, "bytes"},
		"too many fds":   {Message{Type: TypeConn, Seq: 1, Conn: &Conn{Listener: "http", Purpose: PurposeServe}}, MaxFDs + 1, "253"},
		"fds with ready": {Message{Type: TypeReady}, 1, "none"},
	} {
		if b, err := encode(c.message, c.fds); err == nil {
			t.Errorf("%s: sent as %.100s", name, b)
		} else if !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %q does not speak of %q", name, err, c.want)
		}
	}
}

func TestNegotiate(t *testing.T) {
	for _, c := range []struct{ ourMin, ourMax, min, max, want int }{
		{1, 1, 1, 1, 1},
		{1, 3, 1, 1, 1}, // an older SDK with a newer master
		{1, 1, 1, 3, 1}, // and the reverse
		{2, 4, 3, 9, 4},
		{2, 4, 1, 3, 3},
		{2, 4, 1, 1, 0},
		{2, 4, 5, 9, 0},
		{1, 1, 0, 1, 0},
		{1, 1, 2, 1, 0},
		{1, 1, -5, -1, 0},
	} {
		got, err := negotiate(c.ourMin, c.ourMax, c.min, c.max)
		if got != c.want || (err != nil) != (c.want == 0) {
			t.Errorf("%d to %d with %d to %d: %d, %v; want %d", c.ourMin, c.ourMax, c.min, c.max, got, err, c.want)
		}
	}
	if v, err := Negotiate(MinVersion, MaxVersion); err != nil || v != MaxVersion {
		t.Errorf("with ourselves: %d, %v", v, err)
	}
}

// FuzzDecode: whatever comes, it is a valid message or a ProtocolError; a valid
// one can be sent on and means the same again.
func FuzzDecode(f *testing.F) {
	files, err := filepath.Glob(filepath.Join("testdata", "v*", "*.json"))
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, 0, false)
		f.Add(b, 2, false)
	}
	f.Add([]byte(`{"type":"levitate"}`), MaxFDs, false)
	f.Add([]byte{}, 0, true)
	f.Fuzz(func(t *testing.T, b []byte, fds int, truncated bool) {
		fds = min(max(fds, 0), MaxFDs)
		m, err := decode(b, fds, truncated)
		if err != nil {
			var p *ProtocolError
			if !errors.As(err, &p) {
				t.Fatalf("%v is not a ProtocolError", err)
			}
			return
		}
		if m.fdUse() == noFDs {
			fds = 0
		}
		again, err := encode(m, fds)
		if err != nil {
			// Escaping may make it longer than allowed, nothing else.
			if !strings.Contains(err.Error(), "bytes") {
				t.Fatalf("%+v was received and cannot be sent: %v", m, err)
			}
			return
		}
		if _, err := decode(again, fds, false); err != nil {
			t.Fatalf("%s: %v", again, err)
		}
	})
}
