package serve

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

// Early hints are no answer yet, and a switch of protocols has a Connection
// header of its own.
func TestCloseIsSaidOnce(t *testing.T) {
	leaving := NewSignal()
	leaving.Set()
	w := httptest.NewRecorder()
	h := w.Header()
	if setConnectionClose(w, http.StatusEarlyHints, leaving.IsSet) || h.Get("Connection") != "" {
		t.Error("103 was taken for the answer")
	}
	h.Set("Connection", "Upgrade")
	if !setConnectionClose(w, http.StatusSwitchingProtocols, leaving.IsSet) || h.Get("Connection") != "Upgrade" {
		t.Error("the switch of protocols was closed")
	}
	if !setConnectionClose(w, http.StatusOK, leaving.IsSet) || h.Get("Connection") != "close" {
		t.Error("200 does not say close")
	}
}
