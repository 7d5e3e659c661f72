package admin

import (
	"os"
	"testing"

	"github.com/masterd/masterd/pkg/master/admin/admintest"
)

// A socket whose name was removed, or taken by something else, is made again with
// the mode it has by now.
func TestSocketIsMadeAgain(t *testing.T) {
	s := begin(t, &admintest.Backend{}, func(o *Options) { o.ReadersGroup, o.OperatorsGroup = "", "" })
	if mended, err := s.Mend(); mended || err != nil {
		t.Fatalf("nothing was removed: %v, %v", mended, err)
	}
	if err := s.SetAccess("", "4711", ""); err != nil {
		t.Fatal(err)
	}
	open := s.dial()
	for range 3 {
		if err := os.Remove(s.path); err != nil {
			t.Fatal(err)
		}
		if mended, err := s.Mend(); !mended || err != nil {
			t.Fatalf("%v, %v", mended, err)
		}
		if info, err := os.Stat(s.path); err != nil || info.Mode().Perm() != 0o666 {
			t.Errorf("%v, %v", info, err)
		}
		if code, _ := s.do("GET", "/v1/status", ""); code != 200 {
			t.Errorf("answered %d", code)
		}
	}
	if _, err := open.Write([]byte("GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n")); err != nil {
		t.Error(err)
	}
	if n, err := open.Read(make([]byte, 1)); n != 1 {
		t.Errorf("a connection from before is not answered: %v", err)
	}
	if err := os.Remove(s.path); err != nil {
		t.Fatal(err)
	}
	if err := s.SetAccess("", "", ""); err != nil { // before anybody has looked
		t.Error(err)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(s.path); !os.IsNotExist(err) {
		t.Errorf("it is still there: %v", err)
	}
	if mended, err := s.Mend(); mended || err != nil {
		t.Errorf("after the end: %v, %v", mended, err)
	}
}
