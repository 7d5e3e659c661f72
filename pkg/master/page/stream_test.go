package page

import (
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/recent"
)

func TestStreamBegins(t *testing.T) {
	begin(t, "", func(w *world) {
		at := time.Now().Truncate(time.Second)
		w.points = []recent.Point{{At: at, Requests: [5]uint64{1: 7, 4: 2}, P50: 1.5, P99: 20}}
		for i := range 2 * maxEntries {
			w.happens(api.Entry{N: uint64(i + 1), What: "reload"})
		}
		for _, c := range []struct {
			act, change bool
			may         string
		}{
			{true, true, `["promote","abort","rollback","hold"]`}, {false, true, `[]`}, {true, false, `[]`},
		} {
			w.alice.set(true, c.change)
			e := w.look(w.enter(w.alice, c.act))
			if got, want := e.wants("hello"), `{"may":`+c.may+`,"version":"1.2.3"}`; got != want {
				t.Errorf("it begins with %s, want %s", got, want)
			}
			var st api.Status
			if text := e.wants("status"); json.Unmarshal([]byte(text), &st) != nil || st.Service != "shop" ||
				!strings.Contains(text, `"listeners":[],"generations":[]`) {
				t.Errorf("the status is %s", text)
			}
			if got, want := e.wants("recent"), `{"step_s":10,"points":[{"at":"`+at.Format(time.RFC3339)+
				`","requests":[0,7,0,0,2],"p50_ms":1.5,"p99_ms":20}]}`; got != want {
				t.Errorf("the last hour is %s, want %s", got, want)
			}
			var all []api.Entry
			if text := e.wants("history"); json.Unmarshal([]byte(text), &all) != nil || len(all) != maxEntries ||
				all[0].N != 2*maxEntries {
				t.Errorf("the history is %s", text)
			}
			e.body.Close()
		}
	})
}

// What changes is told, at once where somebody says so and else after a look, and nothing else is.
func TestStreamTells(t *testing.T) {
	begin(t, "", func(w *world) {
		cookie := w.enter(w.alice, false)
		e := w.look(cookie)
		e.begins()
		begun := time.Now()
		elapsed := func(want time.Duration) {
			t.Helper()
			if got := time.Since(begun); got != want {
				t.Errorf("told after %s, want %s", got, want)
			}
			begun = time.Now()
		}
		change := func(state string) { w.change(func() { w.status.State = state }); w.Wake() }
		change("degraded")
		if text := e.wants("status"); !strings.Contains(text, `"state":"degraded"`) {
			t.Errorf("told %s", text)
		}
		elapsed(lookSoonest)
		for _, state := range []string{"serving", "degraded", "serving"} {
			change(state)
			synctest.Wait()
		}
		w.change(func() { w.status.Hold = &api.Hold{Reason: "exams"} })
		if text := e.wants("status"); !strings.Contains(text, "exams") {
			t.Errorf("told %s", text)
		}
		elapsed(lookSoonest)
		w.change(func() { w.status.Reasons = []string{"in silence"} })
		e.wants("status")
		elapsed(lookAtRest)
		w.happens(api.Entry{N: 9, What: "switch"})
		if text := e.wants("entry"); !strings.Contains(text, `"what":"switch"`) {
			t.Errorf("told %s", text)
		}
		elapsed(0)
		w.change(func() { w.points = append(w.points, recent.Point{At: time.Now()}) })
		e.wants("point")
		elapsed(lookAtRest)

		other := w.look(cookie)
		other.begins() // and this one is told nothing for that
		w.change(func() { w.status.Rollout = &api.Rollout{ID: 1} })
		e.wants("status")
		other.wants("status")
		begun = time.Now()
		w.change(func() { w.status.Rollout = &api.Rollout{ID: 1, Step: 2} })
		e.wants("status")
		elapsed(lookSoonest)
		e.body.Close()
		other.body.Close()
	})
}

// At rest there is a heartbeat and nothing else, whatever the figures of each look are, and few looks.
func TestRest(t *testing.T) {
	begin(t, "", func(w *world) {
		w.status.Generations = []api.Generation{{Workers: []api.Worker{{ID: 1}}}}
		e := w.look(w.enter(w.alice, false))
		e.begins()
		w.looks = 0
		begun := time.Now()
		for i := range 20 {
			w.change(func() {
				w.status.Generations[0].Workers[0].CPUSeconds += 0.1
				w.status.Generations[0].Workers[0].ProbeMS++
			})
			if ev := e.next(); ev.kind != ":" {
				t.Errorf("at rest %v is told", ev)
			}
			if got := time.Since(begun); got != time.Duration(i+1)*heartbeat {
				t.Errorf("heartbeat %d comes after %s", i, got)
			}
		}
		w.change(func() {
			if limit := int(20 * heartbeat / lookAtRest); w.looks > limit {
				t.Errorf("%d looks, at most %d are wanted", w.looks, limit)
			}
		})
		e.body.Close()
		synctest.Wait()
		w.change(func() { w.looks = 0 })
		for range 100 {
			w.Wake()
			time.Sleep(time.Second)
		}
		w.change(func() {
			if w.looks != 0 {
				t.Errorf("%d looks for nobody", w.looks)
			}
		})
	})
}

// Who does not read is dropped; who does is told all.
func TestSlowReader(t *testing.T) {
	begin(t, "", func(w *world) {
		cookie := w.enter(w.alice, false)
		slow, quick := w.look(cookie), w.look(cookie)
		slow.begins()
		quick.begins()
		begun := time.Now()
		for i := range 2 * maxQueued {
			w.happens(api.Entry{N: uint64(i + 1), What: "reload"})
			quick.wants("entry")
		}
		n := 0
		for ev := slow.next(); ev.kind != ""; ev = slow.next() {
			n++
		}
		if n > maxQueued+2 {
			t.Errorf("one that did not read is told %d things", n)
		}
		if took := time.Since(begun); took > readTimeout {
			t.Errorf("that took %s", took)
		}
		w.happens(api.Entry{What: "switch"})
		quick.wants("entry")

		// One that reads nothing while little happens ends by the time that it takes.
		stuck := w.look(cookie)
		stuck.begins()
		w.happens(api.Entry{What: "switch"})
		quick.wants("entry")
		time.Sleep(readTimeout + time.Millisecond)
		w.happens(api.Entry{What: "switch"})
		quick.wants("entry")
		if ev := stuck.next(); ev.kind != "" {
			t.Errorf("after its time it is told %v", ev)
		}
		quick.body.Close()
	})
}

func TestStreamsAreBounded(t *testing.T) {
	begin(t, "", func(w *world) {
		cookie := w.enter(w.alice, false)
		var all []*events
		for range maxStreams {
			e := w.look(cookie)
			e.begins()
			all = append(all, e)
		}
		if resp, text := w.ask("GET", "/events", cookie, ""); resp.StatusCode != 503 {
			t.Errorf("one too many is answered %s %s", resp.Status, text)
		}
		all[0].body.Close()
		synctest.Wait()
		w.look(cookie).begins()
	})
}

// The end waits for no page, and no page for its end.
func TestEndOfTheMaster(t *testing.T) {
	begin(t, "", func(w *world) {
		cookie := w.enter(w.alice, true)
		e := w.look(cookie)
		e.begins()
		stuck := w.look(cookie)
		stuck.begins()
		w.happens(api.Entry{What: "switch"}) // which nobody reads
		w.alice.result = func() (<-chan api.Event, error) { return make(chan api.Event), nil }
		asks := w.dial()
		go func() {
			_, _ = asks.Write([]byte("POST /do HTTP/1.1\r\nHost: " + address + "\r\n" + own + "\r\n" + keyHeader + ": " + w.keys[cookie] +
				"\r\nCookie: " + cookie + "\r\nContent-Length: 14\r\n\r\n{\"do\":\"abort\"}"))
			_, _ = asks.Read(make([]byte, 1))
		}()
		synctest.Wait()
		if asked := w.alice.has(); len(asked) != 1 {
			t.Fatalf("%q was asked for", asked)
		}
		begun := time.Now()
		w.Close()
		w.Close()
		if took := time.Since(begun); took != 0 {
			t.Errorf("it took %s", took)
		}
		asks.Close()
		e.body.Close()
		stuck.body.Close()
	})
}

// A bug in what is shown ends no service, and no page but this.
func TestBugInALook(t *testing.T) {
	begin(t, "", func(w *world) {
		cookie := w.enter(w.alice, true)
		e := w.look(cookie)
		e.begins()
		w.change(func() { w.bug = true })
		w.Wake()
		time.Sleep(lookAtRest)
		w.change(func() { w.bug, w.status.State = false, "degraded" })
		w.Wake()
		e.wants("status")
		e.body.Close()
	})
}

// Who comes later is shown the time of then, although nothing else has changed.
func TestLatecomer(t *testing.T) {
	begin(t, "", func(w *world) {
		w.look(w.enter(w.alice, false)).begins()
		time.Sleep(time.Minute)
		e := w.look(w.enter(w.alice, false))
		e.wants("hello")
		var st api.Status
		if text := e.wants("status"); json.Unmarshal([]byte(text), &st) != nil || time.Since(st.Now) > 0 {
			t.Errorf("the status is %s, and it is %s", text, time.Now())
		}
	})
}
