package listen

import (
	"testing"

	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/keeper"
)

// What the keeper says it holds makes no more slots than there may be, and a listener
// keeps its address whatever it was called.
func FuzzHeld(f *testing.F) {
	tcp := config.Listener{Name: "http", Network: "tcp", Host: "127.0.0.1", Port: 8080}
	f.Add(heldName(tcp, heldOwn), []byte(`{"steering":"kernel","order":[0,-1]}`))
	f.Add(heldName(tcp, "9223372036854775807"), []byte(`{"owner":18446744073709551615}`))
	f.Add(heldName(tcp, heldOwn), []byte(`{"order":[9223372036854775807]}`))
	f.Add(HeldPrefix+"a/b", []byte(`{`))
	f.Fuzz(func(t *testing.T, name string, meta []byte) {
		h := keeper.Held{Name: name, Meta: meta, FD: -1}
		if n := slotsLeft([]keeper.Held{h}, nil); n < 0 || n > maxSlots {
			t.Errorf("%q: %d slots", name, n)
		}
		_ = ownerOf(meta)
		if c := wasHeld(map[string]keeper.Held{name: h}, tcp); c.Network != tcp.Network || c.Host != tcp.Host || c.Port != tcp.Port {
			t.Errorf("%q makes it %+v", name, c)
		}
	})
}
