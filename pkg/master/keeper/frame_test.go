package keeper

import (
	"bytes"
	"testing"
)

// What decode accepts is within the limits and says the same when it is sent again.
func FuzzDecode(f *testing.F) {
	for _, g := range []frame{
		{kind: kindJoin, meta: []byte{version}}, {kind: kindPut, name: "listen/http/0", meta: []byte(`{"owner":1}`)},
		{kind: kindDrop, name: "a"}, {kind: kindAnswer, meta: []byte("no")},
	} {
		f.Add(g.encode())
	}
	f.Add([]byte{byte(kindPut), 0, 0, 0, 0})
	f.Add([]byte{byte(kindHeld), 255, 255, 255, 255, 'a'})
	f.Fuzz(func(t *testing.T, b []byte) {
		g, err := decode(b)
		if err != nil {
			return
		}
		if len(g.name) > MaxName || len(g.meta) > MaxMeta || len(b) > maxFrame || !bytes.Equal(g.encode(), b) {
			t.Errorf("%q became %+v", b, g)
		}
	})
}
