package rollout

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

var rewrite = flag.Bool("update", false, "write what the machine does into the transcripts")

// TestStories plays testdata/*.txt. A story is a list of lines, each what
// happens, with the commands that follow from it indented below:
//
//	# a comment
//	settings bake=5s processes=2    what the next request carries
//	given start v1                  hidden: a world that answers everything at once plays this, and 200 ms more
//	12ms ready w2                   12 ms later: one event
//	wait 5s                         time passes, ticks come when the machine wants them, nobody answers
//	play 5s                         the same, and the world answers everything
//	status                          the machine's own view
//	target                          where it says that a rollback leads
//	next-master w1                  another machine goes on from what this one has left; w1 is gone by then
//
// -update writes the indented lines anew.
func TestStories(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) < 25 && !*rewrite {
		t.Fatalf("stories: %d, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := newStory(t).play(want)
			if *rewrite {
				if err := os.WriteFile(file, got, 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%s tells another story (-update accepts it):\n%s", file, firstDifference(want, got))
			}
		})
	}
}

func firstDifference(want, got []byte) string {
	w, g := strings.Split(string(want), "\n"), strings.Split(string(got), "\n")
	for i := range max(len(w), len(g)) {
		a, b := "(end)", "(end)"
		if i < len(w) {
			a = w[i]
		}
		if i < len(g) {
			b = g[i]
		}
		if a != b {
			from := max(0, i-6)
			return fmt.Sprintf("line %d\n%s\nwant %s\ngot  %s", i+1, strings.Join(w[from:min(i, len(w))], "\n"), a, b)
		}
	}
	return "no difference"
}

type story struct {
	t        *testing.T
	m        *Machine
	now      time.Time
	settings Settings
	out      bytes.Buffer
	next     string // version that Prepared names
	memory   Memory
	slots    int
	dead     map[Worker]bool
	todo     []Event // of the world that answers everything
	sick     map[Worker]bool
	mute     map[Worker]bool
}

func newStory(t *testing.T) *story {
	return &story{
		t: t, now: epoch, next: "v1", slots: 16, dead: map[Worker]bool{}, sick: map[Worker]bool{}, mute: map[Worker]bool{},
		settings: Settings{
			Processes: 1, Beats: true, Probe: true, StartSuccesses: 2, StartInterval: 50 * time.Millisecond,
			StartTimeout: time.Minute, ActiveInterval: 2 * time.Second, ActiveTimeout: time.Second, ActiveFailures: 3,
			Bake: 5 * time.Minute, Cooldown: 10 * time.Second, MaxPerMinute: 6, DrainTimeout: 5 * time.Minute,
			Handover: true, MaxDraining: 4, KillAfter: 5 * time.Second, RestartInitial: 100 * time.Millisecond, RestartMax: 10 * time.Second,
			Loop: 5, LoopWindow: time.Minute, UnavailableAfter: 5 * time.Second, StopTimeout: time.Minute,
			BeatInterval: time.Second, BeatsSteer: 5, BeatsKill: 10,
		}.whole(),
	}
}

func (s *story) play(text []byte) []byte {
	sc := bufio.NewScanner(bytes.NewReader(text))
	for sc.Scan() {
		line := sc.Text()
		if strings.HasPrefix(line, "\t") {
			continue
		}
		fmt.Fprintln(&s.out, line)
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		s.line(strings.Fields(line))
	}
	return s.out.Bytes()
}

func (s *story) line(words []string) {
	if s.m == nil && words[0] != "settings" && words[0] != "slots" {
		s.m = New(Options{Slots: s.slots, Rand: rand.New(rand.NewPCG(1, 2))})
	}
	if d, err := time.ParseDuration(words[0]); err == nil {
		s.now = s.now.Add(d)
		words = words[1:]
	}
	switch words[0] {
	case "slots":
		s.slots, _ = strconv.Atoi(words[1])
	case "settings":
		for _, w := range words[1:] {
			s.set(w)
		}
	case "memory":
		s.memory = Memory{Known: true, Available: s.number(words[1]) << 20, PerWorker: s.number(words[2]) << 20}
	case "given":
		if len(words) == 3 && words[1] == "play" {
			s.pass(words[2], true, false)
			return
		}
		s.send(s.event(words[1:]), false)
		s.pass("200ms", true, false)
	case "wait", "play":
		s.pass(words[1], words[0] == "play", true)
	case "mute":
		s.mute[Worker(s.id(words[1]))] = true
	case "sick", "well":
		s.sick[Worker(s.id(words[1]))] = words[0] == "sick"
	case "status":
		s.status()
	case "target":
		s.target()
	default:
		s.send(s.event(words), true)
	}
}

func (s *story) pass(d string, answers, print bool) {
	dur, err := time.ParseDuration(d)
	if err != nil {
		s.t.Fatal(err)
	}
	end := s.now.Add(dur)
	if answers {
		s.answer(print)
	}
	for {
		at := s.m.Next()
		if at.IsZero() || at.After(end) {
			break
		}
		if at.After(s.now) {
			s.now = at
		}
		s.send(Ticked{}, print)
		if answers {
			s.answer(print)
		}
	}
	s.now = end
}

// send steps the machine and notes what the answering world would do.
func (s *story) send(ev Event, print bool) {
	if x, ok := ev.(Exited); ok {
		s.dead[x.Worker] = true
	}
	for _, c := range s.m.Step(s.now, ev) {
		if print {
			switch c.(type) {
			case Probe:
				w := s.m.workers[c.(Probe).Worker]
				if _, tick := ev.(Ticked); tick && w != nil && w.accepts() {
					break // the usual ones are left out
				}
				fmt.Fprintf(&s.out, "\t%s\n", s.stamp(c, ev))
			default:
				fmt.Fprintf(&s.out, "\t%s\n", s.stamp(c, ev))
			}
		}
		s.todo = append(s.todo, s.react(c)...)
	}
}

func (s *story) stamp(c Command, ev Event) string {
	if _, ok := ev.(Ticked); ok {
		return s.now.Sub(epoch).String() + " " + show(c)
	}
	return show(c)
}

func (s *story) answer(print bool) {
	for i := 0; len(s.todo) > 0; i++ {
		if i > 10000 {
			s.t.Fatal("the machine and a world that answers at once do not come to rest")
		}
		ev := s.todo[0]
		s.todo = s.todo[1:]
		s.send(ev, print)
	}
}

// react is what a world does in which everything works at once. Workers beat
// whenever they are probed.
func (s *story) react(c Command) []Event {
	switch c := c.(type) {
	case Prepare:
		v := version(s.next)
		if c.Version != nil {
			v = *c.Version
		}
		return []Event{Prepared{Rollout: c.Rollout, Version: v, Memory: s.memory}}
	case Start:
		return []Event{Started{Worker: c.Worker, PID: 100 + int(c.Worker)}, Ready{Worker: c.Worker}}
	case Probe:
		if s.dead[c.Worker] || s.mute[c.Worker] {
			return nil
		}
		if s.sick[c.Worker] {
			return []Event{Beat{Worker: c.Worker}, Probed{Worker: c.Worker, Detail: "GET /healthz said 500"}}
		}
		return []Event{Beat{Worker: c.Worker}, Probed{Worker: c.Worker, OK: true}}
	case Warm:
		return []Event{Warmed{Worker: c.Worker, OK: true}}
	case Activate:
		return []Event{Accepting(c)}
	case Steer:
		return []Event{Steered{Seq: c.Seq}}
	case Drain:
		if s.mute[c.Worker] {
			return nil
		}
		return []Event{Drained{Worker: c.Worker}, Exited{Worker: c.Worker, Detail: "exit status 0"}}
	case Terminate:
		return []Event{Exited{Worker: c.Worker, Detail: "signal: terminated"}}
	case Kill:
		return []Event{Exited{Worker: c.Worker, Detail: "signal: killed"}}
	case Quarantine:
		return []Event{SlotQuiet(c)}
	case Save:
		return []Event{Saved{Seq: c.Seq}}
	}
	return nil
}

// nextMaster puts a new machine in the old one's place, from what that would
// have written to the disk.
func (s *story) nextMaster(gone []string) Event {
	text, err := json.Marshal(s.m.Snapshot())
	if err != nil {
		s.t.Fatal(err)
	}
	found := &Found{Alive: map[Worker]int{}}
	if err := json.Unmarshal(text, &found.Snapshot); err != nil {
		s.t.Fatal(err)
	}
	if err := CheckSnapshot(found.Snapshot); err != nil {
		s.t.Fatal(err)
	}
	for id, w := range s.m.workers {
		found.Alive[id] = w.pid
	}
	for _, w := range gone {
		s.dead[Worker(s.id(w))] = true
		delete(found.Alive, Worker(s.id(w)))
	}
	old := s.m
	s.todo = nil
	s.m = New(Options{Slots: len(old.slots), Rand: rand.New(rand.NewPCG(1, 2))})
	return Booted{Settings: s.settings, State: old.saving.newest, Found: found}
}

func version(id string) Version {
	return Version{ID: id, Digest: "digest-" + id, Label: id}
}

func (s *story) status() {
	st := s.m.Status()
	fmt.Fprintf(&s.out, "\tserving %v, active g%d, parked g%d\n", st.Serving, st.Active, st.Parked)
	if !st.Drains.IsZero() {
		fmt.Fprintf(&s.out, "\tannounced, drains at %s\n", st.Drains.Sub(epoch))
	}
	if w := st.Waits; w != nil {
		fmt.Fprintf(&s.out, "\tan automatic reload by %s waits: %s", w.By, w.Why)
		if !w.Until.IsZero() {
			fmt.Fprintf(&s.out, ", until %s", w.Until.Sub(epoch))
		}
		fmt.Fprintln(&s.out)
	}
	for _, g := range st.Generations {
		fmt.Fprintf(&s.out, "\tg%d %s %s baked=%v\n", g.ID, g.Version.ID, g.Phase, g.Baked)
		for _, w := range g.Workers {
			fmt.Fprintf(&s.out, "\t  w%d s%d %s healthy=%v restarts=%d", w.ID, w.Slot, w.Phase, w.Healthy, w.Restarts)
			if len(w.Gives) > 0 {
				fmt.Fprintf(&s.out, " gives to %v", w.Gives)
			}
			fmt.Fprintln(&s.out)
		}
	}
	for _, g := range st.Generations {
		if n := len(g.Exits); n > 0 {
			fmt.Fprintf(&s.out, "\tg%d lost %d, the last w%d %s\n", g.ID, n, g.Ended.Worker, g.Ended.How)
		}
	}
	if r := st.Rollout; r != nil {
		fmt.Fprintf(&s.out, "\trollout r%d %s g%d %s", r.ID, r.What, r.Generation, r.Stage)
		if len(r.Steps) > 0 {
			fmt.Fprintf(&s.out, ", step %d of %d", r.Step, len(r.Steps))
		}
		if r.Paused != "" {
			fmt.Fprintf(&s.out, ", paused by %s", r.Paused)
		}
		if r.Awaits != "" {
			fmt.Fprintf(&s.out, ", waits for a verdict, else %s", r.Awaits)
		}
		fmt.Fprintln(&s.out)
	}
	for _, x := range st.Slots {
		if x.State != "free" {
			fmt.Fprintf(&s.out, "\ts%d %s g%d weight=%d\n", x.Slot, x.State, x.Generation, x.Weight)
		}
	}
	if f := st.LastFailure; f != nil {
		fmt.Fprintf(&s.out, "\tlast failure r%d %s: %s\n", f.Rollout, f.Stage, f.Reason)
	}
	if c := st.LastCut; c != nil {
		fmt.Fprintf(&s.out, "\tlast cut w%d: %s\n", c.Worker, c.Reason)
	}
}

func (s *story) target() {
	t := s.m.Status().Target
	switch {
	case t.Generation != 0:
		fmt.Fprintf(&s.out, "\ta rollback leads to g%d %s warm=%v unmoved=%v\n", t.Generation, t.Version.ID, t.Warm, t.Unmoved)
	case t.Version.ID != "":
		fmt.Fprintf(&s.out, "\ta rollback starts %s\n", t.Version.ID)
	}
	if !t.Due.IsZero() {
		fmt.Fprintf(&s.out, "\tby itself at %s\n", t.Due.Sub(epoch))
	}
	if t.Refused != "" {
		fmt.Fprintf(&s.out, "\ta rollback is refused: %s\n", t.Refused)
	}
}

func (s *story) number(w string) uint64 {
	n, err := strconv.ParseUint(w, 10, 64)
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

func (s *story) id(w string) uint64 { return s.number(w[1:]) }

func (s *story) set(w string) {
	k, v, _ := strings.Cut(w, "=")
	d, _ := time.ParseDuration(v)
	n, _ := strconv.Atoi(v)
	durations := map[string]*time.Duration{
		"bake": &s.settings.Bake, "drain": &s.settings.DrainTimeout, "start": &s.settings.StartTimeout,
		"cooldown": &s.settings.Cooldown, "unavailable": &s.settings.UnavailableAfter, "stop": &s.settings.StopTimeout,
		"killafter": &s.settings.KillAfter, "prepare": &s.settings.PrepareTimeout, "save": &s.settings.SaveTimeout, "interval": &s.settings.ActiveInterval,
		"watchdog": &s.settings.Watchdog, "minready": &s.settings.MinReady, "giveup": &s.settings.GiveUp, "maxwait": &s.settings.MaxWait, "startinterval": &s.settings.StartInterval,
	}
	numbers := map[string]*int{
		"processes": &s.settings.Processes, "maxdraining": &s.settings.MaxDraining, "perminute": &s.settings.MaxPerMinute,
		"failures": &s.settings.ActiveFailures, "loop": &s.settings.Loop, "successes": &s.settings.StartSuccesses,
	}
	flags := map[string]*bool{
		"slotperworker": &s.settings.SlotPerWorker, "surgeone": &s.settings.SurgeOne, "surgereplace": &s.settings.SurgeReplace, "beats": &s.settings.Beats, "saysready": &s.settings.SaysReady,
		"probe": &s.settings.Probe, "warmup": &s.settings.Warmup, "shortone": &s.settings.ShortOne, "handover": &s.settings.Handover,
		"parkedclose": &s.settings.ParkedClose, "sticky": &s.settings.Sticky, "skipbaked": &s.settings.SkipBaked,
	}
	switch {
	case durations[k] != nil:
		*durations[k] = d
	case numbers[k] != nil:
		*numbers[k] = n
	case flags[k] != nil:
		*flags[k] = v == "true"
	case k == "steps": // 1%:30s,10%
		s.settings.Steps = s.steps(v)
	case k == "inconclusive":
		s.settings.WhenInconclusive = Inconclusive(v)
	case k == "reserve":
		s.settings.MemoryReserve = uint64(n) << 20
	default:
		s.t.Fatalf("no setting %q", k)
	}
}

// steps reads a canary's: weight and how long, if by time.
func (s *story) steps(text string) (all []Step) {
	for word := range strings.SplitSeq(text, ",") {
		weight, hold, _ := strings.Cut(word, ":")
		n, err := strconv.Atoi(strings.TrimSuffix(weight, "%"))
		if err != nil {
			continue // none
		}
		d, _ := time.ParseDuration(hold)
		all = append(all, Step{Weight: uint32(n * Whole / 100), Hold: d})
	}
	return all
}

// cut reads connections,requests,longest, with "beat" behind it when a last beat
// said so; or "unknown".
func (s *story) cut(text string) (c Cut) {
	if text == "unknown" {
		return Cut{Unknown: true}
	}
	for i, word := range strings.Split(text, ",") {
		switch {
		case text == "":
		case word == "beat":
			c.LastBeat = true
		case i == 0:
			c.Connections = s.number(word)
		case i == 1:
			c.Requests = s.number(word)
		default:
			c.Longest, _ = time.ParseDuration(word)
		}
	}
	return c
}

// event reads one.
func (s *story) event(words []string) Event {
	verb, rest := words[0], words[1:]
	opt := map[string]string{}
	var args []string
	for _, w := range rest {
		if k, v, ok := strings.Cut(w, "="); ok {
			opt[k] = v
		} else {
			args = append(args, w)
		}
	}
	req := Request(0)
	if q, ok := opt["req"]; ok {
		req = Request(s.number(q))
	}
	by, why := opt["by"], strings.ReplaceAll(opt["why"], "_", " ")
	if by == "" && req != 0 {
		by = "anna"
	}
	arg := func(i int) string {
		if i < len(args) {
			return args[i]
		}
		return ""
	}
	tail := strings.Join(args[min(1, len(args)):], " ")
	worker := func() Worker { return Worker(s.id(arg(0))) }
	switch verb {
	case "start": // Booted, nothing saved unless told so
		if arg(0) != "" {
			s.next = arg(0)
		}
		var st State
		if b := opt["baked"]; b != "" {
			v := version(b)
			st = State{NextGeneration: 7, Baked: &v, Kept: []Version{v}}
		}
		return Booted{Settings: s.settings, State: st}
	case "reload":
		s.next = arg(0)
		ev := ReloadAsked{Req: req, By: by, Origin: Person, Why: why, Settings: s.settings, Token: "c-" + arg(0),
			Replace: opt["replace"] != "", Digest: "digest-" + arg(0)}
		if opt["origin"] == "watch" {
			ev.Origin, ev.By = Watch, ""
		}
		if opt["until"] == "baked" {
			ev.Until = UntilBaked
		}
		ev.Confirm, _ = time.ParseDuration(opt["confirm"])
		return ev
	case "rollback":
		ev := RollbackAsked{Req: req, By: by, Origin: Person, Why: why}
		if arg(0) != "" {
			v := version(arg(0))
			ev.Version, ev.To = v.ID, &v
		}
		for id := range strings.SplitSeq(opt["stored"], ",") {
			if id != "" {
				ev.Stored = append(ev.Stored, version(id))
			}
		}
		return ev
	case "promote":
		return PromoteAsked{Req: req, By: by, Why: why, All: arg(0) == "all"}
	case "pause":
		return PauseAsked{Req: req, By: by, Why: why}
	case "resume":
		return ResumeAsked{Req: req, By: by, Why: why}
	case "abort":
		return AbortAsked{Req: req, By: by, Why: why}
	case "hold":
		return HoldAsked{Req: req, By: by, Why: why}
	case "unhold":
		return UnholdAsked{Req: req, By: by, Why: why}
	case "scale":
		return ScaleAsked{Req: req, By: by, Why: why, Processes: int(s.number(arg(0)))}
	case "stop":
		ev := StopAsked{Req: req, By: by, Why: why, Patient: arg(0) == "patient", Now: arg(0) == "now"}
		ev.Announce, _ = time.ParseDuration(opt["announce"])
		return ev
	case "judged":
		return Judged{Rollout: Rollout(s.id(arg(0))), Why: tail}
	case "passed":
		return Passed{Rollout: Rollout(s.id(arg(0)))}
	case "incomparable":
		return Incomparable{Rollout: Rollout(s.id(arg(0))), Why: tail}
	case "prepared":
		ev := Prepared{Rollout: Rollout(s.id(arg(0))), Version: version(arg(1)), Memory: s.memory,
			Notice: strings.ReplaceAll(opt["notice"], "_", " ")}
		if opt["own"] != "" { // what "settings" have said last
			own := s.settings
			ev.Settings = &own
		}
		return ev
	case "prepare-failed":
		return PrepareFailed{Rollout: Rollout(s.id(arg(0))), Reason: tail}
	case "started":
		return Started{Worker: worker(), PID: 100 + int(worker())}
	case "start-failed":
		return StartFailed{Worker: worker(), Reason: tail}
	case "ready":
		return Ready{Worker: worker()}
	case "passes":
		return Probed{Worker: worker(), OK: true}
	case "fails":
		return Probed{Worker: worker(), Detail: tail}
	case "warmed":
		return Warmed{Worker: worker(), OK: true}
	case "warm-failed":
		return Warmed{Worker: worker(), Detail: tail}
	case "accepting":
		return Accepting{Worker: worker()}
	case "steered":
		return Steered{Seq: s.number(arg(0))}
	case "steer-failed":
		return SteerFailed{Seq: s.number(arg(0)), Reason: tail}
	case "waiting":
		return Waiting{Worker: worker(), Detail: tail}
	case "vain":
		return Waiting{Worker: worker(), Detail: tail, Vain: true}
	case "refuses":
		return Probed{Worker: worker(), Detail: tail, Refusal: tail, Steady: true}
	case "refuses-yet":
		return Probed{Worker: worker(), Detail: tail, Refusal: tail}
	case "extended":
		by, _ := time.ParseDuration(arg(1))
		return Extended{Worker: worker(), By: by}
	case "paced":
		every, _ := time.ParseDuration(arg(1))
		return Paced{Worker: worker(), Every: every}
	case "unfit":
		return Unfit{Worker: worker(), Why: tail}
	case "triggered":
		return Triggered{Worker: worker()}
	case "leaves":
		return Leaves{Worker: worker()}
	case "beat":
		return Beat{Worker: worker()}
	case "drained":
		return Drained{Worker: worker()}
	case "exited":
		return Exited{Worker: worker(), Detail: tail, Cut: s.cut(opt["cut"])}
	case "quiet":
		return SlotQuiet{Slot: Slot(s.id(arg(0)))}
	case "grown":
		return Grown{Slots: int(s.number(arg(0)))}
	case "saved":
		return Saved{Seq: s.number(arg(0))}
	case "save-failed":
		return SaveFailed{Seq: s.number(arg(0)), Reason: tail}
	case "pressed":
		return Pressed{Detail: strings.Join(args, " ")}
	case "next-master": // the last one is gone; so are those named
		return s.nextMaster(args)
	case "tick":
		return Ticked{}
	}
	s.t.Fatalf("no event %q", verb)
	return nil
}
