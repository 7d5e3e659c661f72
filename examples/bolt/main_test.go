package main

import (
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"
)

// The count goes on in the next process, which cannot begin while this one has the file.
func TestCountGoesOn(t *testing.T) {
	file := filepath.Join(t.TempDir(), "counts.db")
	for want := range 2 {
		db, err := bbolt.Open(file, 0o600, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := bbolt.Open(file, 0o600, &bbolt.Options{Timeout: 1}); err == nil {
			t.Error("two processes have the file")
		}
		answer := httptest.NewRecorder()
		handler(db).ServeHTTP(answer, httptest.NewRequest("GET", "/", nil))
		if got := strings.TrimSpace(answer.Body.String()); got != []string{"1", "2"}[want] {
			t.Errorf("%s", got)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
