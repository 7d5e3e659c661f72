package ipc

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// goldenFrame is one message with the number of descriptors that go with it.
type goldenFrame struct {
	message Message
	fds     int
}

// golden holds a frame of each kind, both directions, by file name. The files
// of a version that was released are never changed: they are what programs out
// there send.
func golden() map[string]goldenFrame {
	return map[string]goldenFrame{
		"hello": {Message{Type: TypeHello, Hello: &Hello{
			Min: 1, Max: 1, Worker: 7, Secret: "00112233445566778899aabbccddeeff", PID: 4711, SDK: "masterd-go/1.0.0", Generation: 3, State: StateNew}}, 0},
		"hello-again": {Message{Type: TypeHello, Hello: &Hello{
			Min: 1, Max: 1, Worker: 7, Secret: "00112233445566778899aabbccddeeff", PID: 4711, SDK: "masterd-go/1.0.0", Generation: 3, State: StateActive}}, 0},
		"hello-adopted": {Message{Type: TypeHello, Hello: &Hello{
			Min: 1, Max: 1, Worker: 7, Secret: "00112233445566778899aabbccddeeff", PID: 4711, SDK: "masterd-go/1.0.0", Generation: 3, State: StateParked,
			Seq: 12, Listeners: []string{"http", "admin"}, Paused: true, Background: true, Gives: []uint64{9, 10}}}, 0},
		"ready":       {Message{Type: TypeReady}, 0},
		"accepting":   {Message{Type: TypeAccepting, Seq: 1}, 0},
		"paused":      {Message{Type: TypePaused, Seq: 2}, 0},
		"parked":      {Message{Type: TypeParked, Seq: 4}, 0},
		"beat":        {Message{Type: TypeBeat, Stats: &Stats{Open: 12, InFlight: 3, Accepted: 90, Requests: 1234, Cut: 1, Goroutines: 41}}, 0},
		"beat-slow":   {Message{Type: TypeBeat, Stats: &Stats{Open: 12, InFlight: 3, Accepted: 90, Requests: 1234, Goroutines: 41, LongestMS: 12300}}, 0},
		"beat-bounds": {Message{Type: TypeBeat, Stats: &Stats{Open: 12, InFlight: 3, Accepted: 90, Requests: 1234, Goroutines: 41, Refused: 7, SlowBodies: 2}}, 0},
		"beat-counts": {Message{Type: TypeBeat, Stats: &Stats{Open: 12, InFlight: 3, Accepted: 90, Requests: 1234, Goroutines: 41, Moved: 7}, Counts: &Counts{
			Listeners: []ListenerCounts{{Listener: "http", InFlight: 3, Open: 12, Accepted: 88}},
			Routes: []RouteCounts{
				{Listener: "http", Route: "GET /users/{id}", Status: [5]uint64{0, 1200, 0, 20, 3}, BytesIn: 4096, BytesOut: 1 << 33, NS: 3669000000,
					Latency: []uint64{57, 1200, 58, 23}},
				{Listener: "http", Route: RouteOther, Status: [5]uint64{8}}},
			Measures:    []MeasureCounts{{Name: "orders_failed", Total: 2}, {Name: "db_pool_ratio", Observed: 4, Sum: 2.25, Last: 0.75}},
			Go:          &GoCounts{Heap: 1 << 24, GCs: 17, PauseNS: 1700000, PauseMaxNS: 90000},
			MaxInFlight: 200}}, 0},
		"drained-cut": {Message{Type: TypeDrained, Seq: 6, Stats: &Stats{Accepted: 91, Requests: 1240, Cut: 5,
			CutRequests: 3, CutLongestMS: 12300, CutMedianMS: 4000}}, 0},
		"drained": {Message{Type: TypeDrained, Seq: 6, Stats: &Stats{Accepted: 91, Requests: 1240, Cut: 1}}, 0},
		"refused": {Message{Type: TypeRefused, Seq: 5, Text: "no listener is named \"admin\""}, 0},
		"welcome": {Message{Type: TypeWelcome, Welcome: &Welcome{Version: 1, Service: "shop", Label: "v1.4.2", BeatMS: 1000,
			Listeners: []Listener{{"http", "tcp://0.0.0.0:8080"}, {"admin", "unix:///run/shop/admin.sock"}}}}, 0},
		"welcome-none":   {Message{Type: TypeWelcome, Welcome: &Welcome{Version: 1, Service: "mailer", Label: "v2", BeatMS: 1000, Listeners: []Listener{}}}, 0},
		"reject":         {Message{Type: TypeReject, Text: "worker 7 of generation 3 is not expected here, or that is not its secret"}, 0},
		"activate":       {Message{Type: TypeActivate, Seq: 1, Activate: &Activate{Listeners: []string{"http", "admin"}}}, 2},
		"activate-wait":  {Message{Type: TypeActivate, Seq: 1, Activate: &Activate{Listeners: []string{"http"}, Wait: true}}, 1},
		"activate-again": {Message{Type: TypeActivate, Seq: 8, Activate: &Activate{}}, 0},
		"pause":          {Message{Type: TypePause, Seq: 2}, 0},
		"resume":         {Message{Type: TypeResume, Seq: 3}, 0},
		"park":           {Message{Type: TypePark, Seq: 4}, 0},
		"drain":          {Message{Type: TypeDrain, Seq: 6, Drain: &Drain{TimeoutMS: 300000}}, 0},
		"drain-patient":  {Message{Type: TypeDrain, Seq: 6, Drain: &Drain{}}, 0},
		"conn-probe":     {Message{Type: TypeConn, Seq: 5, Conn: &Conn{Listener: "http", Purpose: PurposeProbe}}, 1},
		"conn-serve":     {Message{Type: TypeConn, Seq: 9, Conn: &Conn{Listener: "http", Purpose: PurposeServe}}, 3},
		"announce":       {Message{Type: TypeAnnounce, Seq: 10}, 0},
		"dump":           {Message{Type: TypeDump, Seq: 7}, 0},
		"give":           {Message{Type: TypeGive, Seq: 10, Peer: &Peer{Worker: 9, Generation: 4}}, 1},
		"split": {Message{Type: TypeSplit, Seq: 10, Peer: &Peer{Worker: 9, Generation: 4, Instead: true},
			Split: &Split{Rollout: 12, Weight: 1000}}, 1},
		"split-sticky": {Message{Type: TypeSplit, Seq: 10, Peer: &Peer{Worker: 9, Generation: 4},
			Split: &Split{Rollout: 12, Weight: 1000, Salt: 12}}, 1},
		"compare": {Message{Type: TypeCompare, Seq: 12, Compare: &Compare{ID: 86400000000000, Since: 86410}}, 0},
		"compare-more": {Message{Type: TypeCompare, Seq: 12, Compare: &Compare{ID: 86400000000000, Since: 86410,
			Slow: []SlowRoute{{Listener: "http", Route: "/orders/:id", NS: 52000000}}, Measures: []string{"orders_failed"}}}, 0},
		"compare-no-more": {Message{Type: TypeCompare, Seq: 13}, 0},
		"stay":            {Message{Type: TypeStay, Seq: 11}, 0},
		"take":            {Message{Type: TypeTake, Seq: 3, Peer: &Peer{Worker: 7, Generation: 3}}, 1},
		"offer":           {Message{Type: TypeOffer, Seq: 1, Offer: &Offer{Listener: "http"}}, 3},
		"offer-kind": {Message{Type: TypeOffer, Seq: 2, Offer: &Offer{
			Listener: "http", Kind: "chat", Version: 2, State: []byte("seen 17"), Unread: []byte{0x81, 0x85}}}, 1},
		"later": {Message{Type: TypeLater, Seq: 1}, 0},
		"taken": {Message{Type: TypeTaken, Seq: 1}, 0},
		"yours": {Message{Type: TypeYours, Seq: 1}, 0},
		"mine":  {Message{Type: TypeMine, Seq: 2}, 0},
		"welcome-keeps": {Message{Type: TypeWelcome, Welcome: &Welcome{Version: 1, Service: "shop", Label: "v2", BeatMS: 1000,
			Listeners: []Listener{{"http", "tcp://0.0.0.0:8080"}}, Keeps: true}}, 0},
		"keep":         {Message{Type: TypeKeep, Seq: 1, Blob: &Blob{Name: "sessions", Size: 4096}}, 1},
		"keep-persist": {Message{Type: TypeKeep, Seq: 2, Blob: &Blob{Name: "sessions", Size: 4096, Persist: true, If: 1764102320000017}}, 1},
		"keep-new":     {Message{Type: TypeKeep, Seq: 3, Blob: &Blob{Name: "sessions", New: true}}, 1},
		"fetch":        {Message{Type: TypeFetch, Seq: 4, Blob: &Blob{Name: "sessions"}}, 0},
		"forget":       {Message{Type: TypeForget, Seq: 5, Blob: &Blob{Name: "sessions"}}, 0},
		"kept":         {Message{Type: TypeKept, Seq: 2, Blob: &Blob{Name: "sessions", Revision: 1764102320000018}}, 0},
		"kept-changed": {Message{Type: TypeKept, Seq: 3, Blob: &Blob{Name: "sessions", Revision: 1764102320000018, Changed: true}}, 0},
		"blob":         {Message{Type: TypeBlob, Seq: 4, Blob: &Blob{Name: "sessions", Size: 4096, Revision: 1764102320000018}}, 1},
		"blob-none":    {Message{Type: TypeBlob, Seq: 4, Blob: &Blob{Name: "sessions", None: true}}, 0},
	}
}

// goldenV2 holds what version 2 has beyond that.
func goldenV2() map[string]goldenFrame {
	return map[string]goldenFrame{
		"hello": {Message{Type: TypeHello, Hello: &Hello{
			Min: 1, Max: 2, Worker: 7, Secret: "00112233445566778899aabbccddeeff", PID: 4711, SDK: "masterd-go/1.0.0", Generation: 3, State: StateNew}}, 0},
		"welcome": {Message{Type: TypeWelcome, Welcome: &Welcome{Version: 2, Service: "shop", Label: "v1.4.2", BeatMS: 1000,
			Listeners: []Listener{{"http", "tcp://0.0.0.0:8080"}}, Keeps: true}}, 0},
		"renew":   {Message{Type: TypeRenew, Seq: 1, Renew: &Renew{Secret: "ffeeddccbbaa99887766554433221100"}}, 0},
		"renewed": {Message{Type: TypeRenewed, Seq: 1}, 0},
	}
}

// goldenDirs are the frames of each version, where they are.
func goldenDirs() map[string]map[string]goldenFrame {
	return map[string]map[string]goldenFrame{"testdata/v1": golden(), "testdata/v2": goldenV2()}
}

// update writes the golden frames anew; never do it to those of a released version.
var update = flag.Bool("update", false, "write golden frames anew")

func TestGoldenFramesAreWhatIsSent(t *testing.T) {
	for dir, frames := range goldenDirs() {
		sent(t, dir, frames)
	}
}

func sent(t *testing.T, dir string, frames map[string]goldenFrame) {
	t.Helper()
	for name, g := range frames {
		path := filepath.Join(dir, name+".json")
		b, err := encode(g.message, g.fds)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if *update {
			if err := os.WriteFile(path, b, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Error(err)
		} else if !bytes.Equal(b, want) {
			t.Errorf("%s is sent as\n%s\nand was\n%s", name, b, want)
		}
	}
}

func TestGoldenFramesAreUnderstood(t *testing.T) {
	seen := map[Type]bool{}
	for dir, frames := range goldenDirs() {
		understood(t, dir, frames, seen)
	}
	for _, typ := range []Type{TypeHello, TypeReady, TypeAccepting, TypePaused, TypeParked, TypeBeat, TypeDrained, TypeRefused,
		TypeWelcome, TypeReject, TypeActivate, TypePause, TypeResume, TypePark, TypeAnnounce, TypeDrain, TypeConn, TypeDump,
		TypeGive, TypeSplit, TypeStay, TypeTake, TypeOffer, TypeTaken, TypeLater, TypeYours, TypeMine,
		TypeKeep, TypeFetch, TypeForget, TypeKept, TypeBlob, TypeRenew, TypeRenewed, TypeCompare} {
		if !seen[typ] {
			t.Errorf("no golden frame of type %q", typ)
		}
	}
}

func understood(t *testing.T, dir string, frames map[string]goldenFrame, seen map[Type]bool) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden frames: %v", err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		g, ok := frames[name]
		if !ok {
			t.Errorf("%s is not in the table: what was sent once must be understood for ever", file)
			continue
		}
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		m, err := decode(b, g.fds, false)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !reflect.DeepEqual(m, g.message) {
			t.Errorf("%s is read as %+v", name, m)
		}
		seen[m.Type] = true

		// The same from a peer that knows more than we do.
		newer := addFields(t, b)
		if m, err = decode(newer, g.fds, false); err != nil {
			t.Errorf("%s with unknown fields: %v", name, err)
		} else if !reflect.DeepEqual(m, g.message) {
			t.Errorf("%s with unknown fields is read as %+v", name, m)
		}
	}
}

// addFields puts a field that nobody knows into the message and its bodies.
func addFields(t *testing.T, b []byte) []byte {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	for _, v := range m {
		if body, ok := v.(map[string]any); ok {
			body["from_the_future"] = []any{1, "two", map[string]any{"three": nil}}
		}
	}
	m["from_the_future"] = map[string]any{"nested": true}
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestAnUnknownTypeIsDelivered(t *testing.T) {
	m, err := decode([]byte(`{"type":"levitate","seq":9,"how":{"high":3}}`), 2, false)
	if err != nil || m.Type != "levitate" || m.Seq != 9 {
		t.Fatalf("%+v, %v", m, err)
	}
}
