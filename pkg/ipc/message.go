package ipc

// Limits of the control protocol. They are part of it: see PROTOCOL.md.
const (
	MinVersion   = 1        // oldest protocol version spoken here
	MaxVersion   = 2        // newest
	RenewVersion = 2        // since which secrets are renewed
	MaxMessage   = 64 << 10 // bytes of JSON in one message
	MaxFDs       = 253      // descriptors on one message (SCM_MAX_FD of the kernel)
)

// Environment of an SDK worker. The SDK reads these and removes them.
const (
	EnvControl    = "MASTERD_CONTROL"    // path of the control socket
	EnvWorker     = "MASTERD_WORKER"     // worker id, decimal
	EnvSecret     = "MASTERD_SECRET"     // hello's first secret
	EnvControlFD  = "MASTERD_CONTROL_FD" // a connected control socket that is inherited: "descriptor:inode"
	EnvGeneration = "MASTERD_GENERATION" // decimal
	EnvService    = "MASTERD_SERVICE"
	EnvVersion    = "MASTERD_VERSION"     // the version's label
	EnvRuntimeDir = "MASTERD_RUNTIME_DIR" // the service's; with EnvWorker, of workers of every kind
)

// Type names a message.
type Type string

// Messages from a worker to its master.
const (
	// TypeHello is the first message on a connection, also after a reconnect.
	TypeHello Type = "hello"
	// TypeReady: the worker can serve; nothing is sent to it yet.
	TypeReady Type = "ready"
	// TypeAccepting answers activate: connections are taken from the slots.
	TypeAccepting Type = "accepting"
	// TypePaused answers pause: nothing is accepted any more.
	TypePaused Type = "paused"
	// TypeParked answers park.
	TypeParked Type = "parked"
	// TypeBeat comes every welcome.beat_ms, with the worker's numbers.
	TypeBeat Type = "beat"
	// TypeDrained: nothing is open any more; the worker exits by itself.
	TypeDrained Type = "drained"
	// TypeRefused: the message with this seq could not be followed; text says why.
	TypeRefused Type = "refused"
	// TypeKeep asks the master to keep a blob: sealed memory, beside it.
	TypeKeep Type = "keep"
	// TypeFetch asks for a kept blob.
	TypeFetch Type = "fetch"
	// TypeForget asks that a blob be kept no longer.
	TypeForget Type = "forget"
	// TypeRenewed answers renew: the next hello proves itself with the new secret.
	TypeRenewed Type = "renewed"
)

// Messages from a master to its worker.
const (
	// TypeWelcome answers hello, with the version both will speak.
	TypeWelcome Type = "welcome"
	// TypeReject answers hello when there is none; the connection ends.
	TypeReject Type = "reject"
	// TypeActivate hands over the listening sockets (names and fds in the same
	// order) the first time, and later only says: you are active again.
	TypeActivate Type = "activate"
	// TypePause and TypeResume stop and start accepting (shared steering).
	TypePause  Type = "pause"
	TypeResume Type = "resume"
	// TypePark: you get no new connections; pause background work, ask
	// connections to leave. Accepting goes on.
	TypePark Type = "park"
	// TypeDrain: take what is queued, stop accepting, finish, exit.
	TypeDrain Type = "drain"
	// TypeAnnounce: the service is about to stop; say so to who asks whether it
	// is ready, and go on. No answer.
	TypeAnnounce Type = "announce"
	// TypeConn passes open connections (one fd each) to be served as if they
	// had been accepted on the named listener: health checks, and connections
	// found in a queue whose worker is gone.
	TypeConn Type = "conn"
	// TypeDump: write all stacks to standard error.
	TypeDump Type = "dump"
	// TypeGive brings one end of a handover link to another worker: move idle
	// client connections there, now and as they become idle. Several may be
	// given to. TypeStay ends that: what is open stays.
	TypeGive Type = "give"
	TypeStay Type = "stay"
	// TypeSplit is TypeGive for a worker that stays active: only a share of its
	// connections is to go. It is a type of its own so that an SDK which does not know it
	// refuses it, and keeps them all.
	TypeSplit Type = "split"
	// TypeTake brings the other end: serve what comes over it.
	TypeTake Type = "take"
	// TypeRenew brings another secret, which nobody can read from the worker's
	// environment. Since version 2.
	TypeRenew Type = "renew"
	// TypeCompare: from now on count the client connections that begin, and those of them that
	// have an error, by ticks, in Counts.Compared of each beat. Without a body: no more. An SDK
	// that does not know it refuses it. No answer.
	TypeCompare Type = "compare"
)

// Messages on a handover link, between two workers.
const (
	// TypeOffer brings client connections. The giver still has them.
	TypeOffer Type = "offer"
	// TypeTaken answers it: the taker could serve them, and waits. Its other
	// answer is TypeRefused.
	TypeTaken Type = "taken"
	// TypeLater is its answer when the taker leaves itself: the giver keeps what
	// it has and offers no more here. Another way, or an end of its own leaving,
	// is about to be told to it.
	TypeLater Type = "later"
	// TypeYours: the connections of this offer are the taker's from now on.
	TypeYours Type = "yours"
	// TypeMine: they are not. The giver serves on, whatever the answer was or
	// will be; the taker closes its descriptors of them.
	TypeMine Type = "mine"
	// TypeKept answers keep and forget: it is so. TypeRefused is the other
	// answer, of fetch too.
	TypeKept Type = "kept"
	// TypeBlob answers fetch: the memory beside it, or none.
	TypeBlob Type = "blob"
)

// Message is one frame: a JSON object, with descriptors beside it.
type Message struct {
	Type Type   `json:"type"`
	Seq  uint64 `json:"seq,omitempty"` // of a request; the answer repeats it

	Hello    *Hello    `json:"hello,omitempty"`
	Welcome  *Welcome  `json:"welcome,omitempty"`
	Activate *Activate `json:"activate,omitempty"`
	Drain    *Drain    `json:"drain,omitempty"`
	Conn     *Conn     `json:"conn,omitempty"`
	Peer     *Peer     `json:"peer,omitempty"` // give, split, take: who is at the other end
	Split    *Split    `json:"split,omitempty"`
	Compare  *Compare  `json:"compare,omitempty"`
	Offer    *Offer    `json:"offer,omitempty"`
	Blob     *Blob     `json:"blob,omitempty"` // keep, fetch, forget, kept, blob
	Renew    *Renew    `json:"renew,omitempty"`
	Stats    *Stats    `json:"stats,omitempty"`  // beat, drained
	Counts   *Counts   `json:"counts,omitempty"` // beat, drained; an older worker has none
	Text     string    `json:"text,omitempty"`   // reject, refused: why
}

// Hello introduces a worker.
type Hello struct {
	Min        int    `json:"min"` // oldest protocol version the worker speaks
	Max        int    `json:"max"` // newest
	Worker     uint64 `json:"worker"`
	Secret     string `json:"secret"`
	PID        int    `json:"pid"`
	SDK        string `json:"sdk"` // name and version, for people
	Generation uint64 `json:"generation"`
	State      string `json:"state"` // "new", "ready", "active", "parked", "draining": what a reconnecting worker is

	// What an earlier master has made of it; see PROTOCOL.md.
	Seq        uint64   `json:"seq,omitempty"`        // the highest of a master's request so far
	Listeners  []string `json:"listeners,omitempty"`  // whose sockets it holds, each name once
	Paused     bool     `json:"paused,omitempty"`     // it was told not to accept
	Background bool     `json:"background,omitempty"` // its background work runs, or has not ended
	Gives      []uint64 `json:"gives,omitempty"`      // workers that it moves connections to
}

// Welcome accepts a worker.
type Welcome struct {
	Version   int        `json:"version"`
	Service   string     `json:"service"`
	Label     string     `json:"label"` // of the version
	BeatMS    int        `json:"beat_ms"`
	Listeners []Listener `json:"listeners"`
	Keeps     bool       `json:"keeps,omitempty"` // the master keeps blobs; an older one does not
}

// Listener is a name and an address that the worker may be handed later.
type Listener struct {
	Name    string `json:"name"`
	Address string `json:"address"` // tcp://HOST:PORT or unix:///PATH
}

// Activate names the descriptors beside it; none when they were handed over before.
type Activate struct {
	Listeners []string `json:"listeners,omitempty"`
	// Wait: background work waits for another activate, without this. That of
	// the version before has not ended.
	Wait bool `json:"wait,omitempty"`
}

// Drain bounds a drain.
type Drain struct {
	TimeoutMS int64 `json:"timeout_ms"` // zero: no deadline
}

// Renew is what a worker is to prove itself with from now on.
type Renew struct {
	Secret string `json:"secret"`
}

// Purposes of a passed connection.
const (
	PurposeProbe = "probe" // a health check: counted apart, served in every state
	PurposeServe = "serve" // a client's
)

// Conn tells what the connections beside it are.
type Conn struct {
	Listener string `json:"listener"`
	Purpose  string `json:"purpose"`
}

// Peer is the worker at the other end of a handover link.
type Peer struct {
	Worker     uint64 `json:"worker"`
	Generation uint64 `json:"generation"`
	// Instead, of a give or split: from now on to this worker and to no other.
	Instead bool `json:"instead,omitempty"`
	// Names, of a take: what the listeners that the giver calls otherwise are called
	// here, by its names.
	Names map[string]string `json:"names,omitempty"`
}

// Whole is the weight of all connections.
const Whole = 10000

// Split is the share of a worker's client connections that belongs to another version, while
// both have the traffic.
type Split struct {
	Rollout uint64 `json:"rollout"` // whose steps these are: each draws anew
	Weight  uint32 `json:"weight"`  // in parts of [Whole], of all connections since the first step
	// Salt is that of [StickyHash] of a client's address, which decides where it belongs; zero:
	// each connection draws.
	Salt uint32 `json:"salt,omitempty"`
}

// MaxParcel bounds State and Unread of an offer together, in bytes: they
// travel in the message.
const MaxParcel = 32 << 10

// Offer tells what the connections beside it are.
type Offer struct {
	Listener string `json:"listener"` // to be served as if accepted there
	// Kind is empty for HTTP/1.1 connections between two requests, 1 … MaxFDs
	// of them. Else it names what a program does with its own, one at a time;
	// Version, State and Unread are that program's.
	Kind    string `json:"kind,omitempty"`
	Version int    `json:"version,omitempty"` // of the form of State
	State   []byte `json:"state,omitempty"`
	Unread  []byte `json:"unread,omitempty"` // was read from the connection and not used
}

// Stats are a worker's numbers at one moment. Counts since its start unless said otherwise.
type Stats struct {
	Open       int64  `json:"open"`      // client connections open now
	InFlight   int64  `json:"in_flight"` // requests running now
	Accepted   uint64 `json:"accepted"`
	Requests   uint64 `json:"requests"`
	Cut        uint64 `json:"cut"` // connections closed at a deadline
	Goroutines int    `json:"goroutines,omitempty"`
	LongestMS  int64  `json:"longest_ms,omitempty"` // for how long the longest running request runs now
	Moved      uint64 `json:"moved,omitempty"`      // connections given to another worker, which are open there

	// Of clients that were over a bound which the program has set.
	Refused    uint64 `json:"refused,omitempty"`     // connections reset, their address had too many
	SlowBodies uint64 `json:"slow_bodies,omitempty"` // requests whose bodies came too slowly

	// Of what was running when a deadline came; nothing, if nothing was.
	CutRequests  uint64 `json:"cut_requests,omitempty"`
	CutLongestMS int64  `json:"cut_longest_ms,omitempty"` // for how long the longest of them had run
	CutMedianMS  int64  `json:"cut_median_ms,omitempty"`  // half of them had run for so long at least
}
