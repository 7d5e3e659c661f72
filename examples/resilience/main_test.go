package main

import (
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"
)

// After five failures the other service is left alone, clients are answered at once, and the
// service itself stays healthy: no version of it would do better. When the other one is back
// it is found by itself.
func TestTheOtherServiceIsDown(t *testing.T) {
	var calls atomic.Int64
	var down atomic.Bool
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		calls.Add(1)
		if down.Load() {
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	defer other.Close()
	const pause = 50 * time.Millisecond
	h := routes(newPrices(other.URL, pause))
	get := func(path string) int {
		r := httptest.NewRecorder()
		h.ServeHTTP(r, httptest.NewRequest(http.MethodGet, path, nil))
		return r.Code
	}

	if code := get("/price"); code != http.StatusOK {
		t.Fatalf("status %d while all is well", code)
	}
	down.Store(true)
	calls.Store(0)
	began := time.Now()
	for range 3 * failures {
		if code := get("/price"); code != http.StatusServiceUnavailable {
			t.Errorf("status %d while the other service is down", code)
		}
	}
	if n := calls.Load(); n < failures || n > failures+int64(time.Since(began)/pause) {
		t.Errorf("it was called %d times, want %d and one after each pause", n, failures)
	}
	if code := get("/healthz"); code != http.StatusOK {
		t.Errorf("its own health is %d", code)
	}
	down.Store(false)
	for until := time.Now().Add(time.Minute); get("/price") != http.StatusOK; time.Sleep(pause / 5) {
		if time.Now().After(until) {
			t.Fatal("it was not found again")
		}
	}
}
