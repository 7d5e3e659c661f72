package keeper

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write testdata/frames.txt anew")

// A keeper is older or newer than its master: what either has sent once it sends for
// ever.
func TestFramesAreWhatTheyWere(t *testing.T) {
	var b strings.Builder
	for _, k := range []struct {
		name string
		frame
	}{
		{"join", frame{kind: kindJoin, meta: []byte{version}}},
		{"put", frame{kind: kindPut, name: "slot/http/0", meta: []byte(`{"owner":1}`)}},
		{"drop", frame{kind: kindDrop, name: "slot/http/0"}},
		{"guard", frame{kind: kindGuard}},
		{"unguard", frame{kind: kindUnguard}},
		{"end", frame{kind: kindEnd}},
		{"held", frame{kind: kindHeld, name: "slot/http/0", meta: []byte(`{"owner":1}`)}},
		{"all", frame{kind: kindAll, meta: []byte{version}}},
		{"replaced", frame{kind: kindReplaced}},
		{"not kept", frame{kind: kindNotKept, name: "a", meta: []byte("full")}},
		{"answer", frame{kind: kindAnswer, meta: []byte("no")}},
	} {
		fmt.Fprintf(&b, "%s: %q\n", k.name, k.encode())
	}
	order, err := json.Marshal(order{Args: [][]byte{[]byte("masterd"), []byte("run")}, Env: [][]byte{[]byte("A=b")}, Dir: []byte("/"), For: MaxGuard, JoinWithin: MaxGuard})
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(&b, "what a guard starts, in memory: %s\n", order)
	const golden = "testdata/frames.txt"
	if *update {
		if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	was, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(was) {
		t.Errorf("frames are\n%sand were\n%s", b.String(), was)
	}
}
