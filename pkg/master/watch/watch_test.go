package watch

import (
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"
)

// Each way in which people and programs save a file is one change.
func TestSaves(t *testing.T) {
	for name, save := range map[string]func(h *world, name, text string){
		"in place": (*world).write,
		"vim": func(h *world, name, text string) { // the old one is renamed away, a new one written in its place
			h.rename(name, name+"~")
			h.write(name, text)
			h.must(os.Remove(h.path(name + "~")))
		},
		"rename over": func(h *world, name, text string) {
			h.write(name+".tmp", text)
			h.rename(name+".tmp", name)
		},
		"moved from elsewhere": func(h *world, name, text string) {
			h.write("elsewhere/x", text)
			h.rename("elsewhere/x", name)
		},
		"removed and made anew": func(h *world, name, text string) {
			h.must(os.Remove(h.path(name)))
			h.write(name, text)
		},
		"hard link over": func(h *world, name, text string) {
			h.write("new", text)
			h.must(os.Link(h.path("new"), h.path("link")))
			h.rename("link", name)
			h.must(os.Remove(h.path("new")))
		},
		"same size and time": func(h *world, name, text string) {
			st, err := os.Stat(h.path(name))
			h.must(err)
			h.write(name, text)
			h.must(os.Chtimes(h.path(name), st.ModTime(), st.ModTime()))
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newWorld(t, map[string]string{"a/shop": "version 1"}).watch("a/shop")
			save(h, "a/shop", "version 2")
			h.expect(map[string]string{"a/shop": "version 2"})
			save(h, "a/shop", "version 3")
			h.expect(map[string]string{"a/shop": "version 3"})
			h.quiet("a/shop")
		})
	}
}

// Half a file is no change, however long its writer takes for the rest.
func TestSlowWriter(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("who writes is known on Linux only")
	}
	h := newWorld(t, map[string]string{"shop": "version 1"})
	h.opt.MaxSettle = patient
	h.watch("shop")
	f, err := os.OpenFile(h.path("shop"), os.O_WRONLY|os.O_TRUNC, 0)
	h.must(err)
	for i, part := range []string{"ver", "sion", " 2"} {
		_, err = f.WriteString(part)
		h.must(err)
		h.logged(writing, 3*(i+1))
	}
	h.must(f.Close())
	h.expect(map[string]string{"shop": "version 2"})
	h.quiet("shop")
}

// A file that somebody keeps open counts in the end.
func TestMaxSettle(t *testing.T) {
	h := newWorld(t, map[string]string{"shop": "version 1"})
	h.opt.MaxSettle = 5 * settle
	h.watch("shop")
	f, err := os.OpenFile(h.path("shop"), os.O_WRONLY|os.O_TRUNC, 0)
	h.must(err)
	defer f.Close()
	_, err = f.WriteString("version 2")
	h.must(err)
	h.expect(map[string]string{"shop": "version 2"})
}

func TestSameContentIsNoChange(t *testing.T) {
	for name, touch := range map[string]func(h *world){
		"touch":   func(h *world) { h.must(os.Chtimes(h.path("shop"), time.Now(), time.Now())) },
		"chmod":   func(h *world) { h.must(os.Chmod(h.path("shop"), 0o700)) },
		"rewrite": func(h *world) { h.write("shop", "version 1") },
		"replace": func(h *world) { h.write("new", "version 1"); h.rename("new", "shop") },
		"there and back": func(h *world) {
			h.rename("shop", "old")
			h.rename("old", "shop")
		},
		"removed": func(h *world) { h.must(os.Remove(h.path("shop"))) },
	} {
		t.Run(name, func(t *testing.T) {
			h := newWorld(t, map[string]string{"shop": "version 1"}).watch("shop")
			touch(h)
			h.logged(heldSame, 1)
			h.quiet("shop")
		})
	}
}

// Two files of one deployment are one change.
func TestSeveralFiles(t *testing.T) {
	h := newWorld(t, map[string]string{"etc/shop.yaml": "a", "bin/shop": "1", "bin/other": "x"})
	h.opt.Settle = time.Second // both are written within, even here
	h.watch("etc/shop.yaml", "bin/shop")
	h.write("bin/shop", "2")
	h.write("etc/shop.yaml", "b")
	h.expect(map[string]string{"bin/shop": "2", "etc/shop.yaml": "b"})
	h.write("bin/other", "y") // beside it, and nobody's concern
	h.quiet("etc/shop.yaml")
}

func TestSymbolicLinks(t *testing.T) {
	releases := map[string]string{"srv/releases/1/bin/shop": "version 1", "srv/releases/2/bin/shop": "version 2", "srv/releases/3/bin/shop": "version 3"}
	for name, test := range map[string]struct {
		make func(h *world)
		flip func(h *world, to string)
	}{
		"of a parent": {
			func(h *world) { h.symlink("releases/1", "srv/current") },
			func(h *world, to string) { h.flip("releases/"+to, "srv/current") },
		},
		"of a parent, absolute": {
			func(h *world) { h.symlink(h.path("srv/releases/1"), "srv/current") },
			func(h *world, to string) { h.flip(h.path("srv/releases/"+to), "srv/current") },
		},
		"not at once": {
			func(h *world) { h.symlink("releases/1", "srv/current") },
			func(h *world, to string) {
				h.must(os.Remove(h.path("srv/current")))
				h.symlink("releases/"+to, "srv/current")
			},
		},
		"over several": {
			func(h *world) {
				h.symlink("latest", "srv/current")
				h.symlink("../srv/releases/1", "srv/latest")
			},
			func(h *world, to string) { h.flip("./releases/"+to, "srv/latest") },
		},
		"of the file itself": {
			func(h *world) { h.symlink("../../releases/1/bin/shop", "srv/current/bin/shop") },
			func(h *world, to string) { h.flip("../../releases/"+to+"/bin/shop", "srv/current/bin/shop") },
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newWorld(t, releases)
			if name == "of the file itself" {
				h.must(os.MkdirAll(h.path("srv/current/bin"), 0o755))
			}
			test.make(h)
			h.watch("srv/current/bin/shop")
			test.flip(h, "2")
			h.expect(map[string]string{"srv/current/bin/shop": "version 2"})
			h.write("srv/releases/2/bin/shop", "version 2a") // where it leads now is watched
			h.expect(map[string]string{"srv/current/bin/shop": "version 2a"})
			test.flip(h, "3")
			h.expect(map[string]string{"srv/current/bin/shop": "version 3"})
			h.write("srv/releases/2/bin/shop", "version 2b") // and where it led before is not
			test.flip(h, "1")
			h.expect(map[string]string{"srv/current/bin/shop": "version 1"})
			h.quiet("srv/current/bin/shop")
		})
	}
}

func TestDirectories(t *testing.T) {
	t.Run("replaced", func(t *testing.T) {
		h := newWorld(t, map[string]string{"app/v/bin/shop": "1", "new/v/bin/shop": "2"}).watch("app/v/bin/shop")
		h.rename("app", "old")
		h.rename("new", "app")
		h.expect(map[string]string{"app/v/bin/shop": "2"})
		h.write("old/v/bin/shop", "nobody's concern")
		h.write("app/v/bin/shop", "3")
		h.expect(map[string]string{"app/v/bin/shop": "3"})
		h.quiet("app/v/bin/shop")
	})
	t.Run("removed and made anew", func(t *testing.T) {
		h := newWorld(t, map[string]string{"app/v/bin/shop": "1"}).watch("app/v/bin/shop")
		for _, v := range []string{"2", "3", "4"} {
			h.must(os.RemoveAll(h.path("app")))
			h.write("app/v/bin/shop", v)
			h.expect(map[string]string{"app/v/bin/shop": v})
		}
		h.quiet("app/v/bin/shop")
	})
	t.Run("not there yet", func(t *testing.T) {
		h := newWorld(t, nil).watch("a/b/c/shop")
		for _, d := range []string{"a", "a/b", "a/b/c"} {
			h.must(os.Mkdir(h.path(d), 0o755))
		}
		h.write("a/b/c/shop", "1")
		h.expect(map[string]string{"a/b/c/shop": "1"})
		h.quiet("a/b/c/shop")
	})
	t.Run("a file in the place of one", func(t *testing.T) {
		h := newWorld(t, map[string]string{"a": "file"}).watch("a/shop")
		h.must(os.Remove(h.path("a")))
		h.write("a/shop", "1")
		h.expect(map[string]string{"a/shop": "1"})
	})
}

func TestSet(t *testing.T) {
	h := newWorld(t, map[string]string{"a/1": "1", "b/2": "2", "c/3": "3"}).watch("a/1", "b/2")
	h.w.Set([]string{h.path("b/2"), "relative"}) // refused: nothing changes
	h.logged("the files that were watched before stay watched", 1)
	h.write("a/1", "1a")
	h.expect(map[string]string{"a/1": "1a"})

	h.w.Set([]string{h.path("b/2"), h.path("c/3"), h.path("c/3")})
	h.logged(watching, 2)
	h.write("b/2", "2a")
	h.expect(map[string]string{"b/2": "2a"})
	h.write("a/1", "1b")
	h.quiet("c/3")

	h.w.Close()
	h.w.Set([]string{h.path("a/1")})
	h.w.Set([]string{h.path("b/2")}) // the last one counts, and nobody waits
	if last := <-h.w.set; !reflect.DeepEqual(last, []string{h.path("b/2")}) {
		t.Error(last)
	}
}

func TestClose(t *testing.T) {
	h := newWorld(t, map[string]string{"shop": "1"}).watch("shop")
	h.write("shop", "2")
	h.w.Close()
	h.w.Close()
	h.w.Set([]string{h.path("shop")})
	h.w.Set([]string{h.path("shop")})
	buf := make([]byte, 1<<20)
	for deadline := time.Now().Add(patient); ; runtime.Gosched() { // it may be on its last steps
		stacks := string(buf[:runtime.Stack(buf, true)])
		if !strings.Contains(stacks, "watch.(*scanner)") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("left:\n%s", stacks)
		}
	}
}

func TestBadOptions(t *testing.T) {
	told := func(Change) {}
	many := make([]string, MaxFiles+1)
	for i := range many {
		many[i] = filepath.Join("/x", strings.Repeat("x", i+1))
	}
	for _, o := range []Options{{Files: []string{"relative"}, Changed: told}, {Files: []string{"/x"}}, {Files: many, Changed: told}} {
		if w, err := Open(o); err == nil {
			w.Close()
			t.Errorf("%v was accepted", o)
		}
	}
}

// What is read within one step of the clock after a change may change once more with
// the same times: the next look counts as a move, the one after it does not.
func TestReadTooSoon(t *testing.T) {
	h := newWorld(t, nil)
	f := &file{path: h.path("shop")}
	for end := time.Now().Add(patient); !f.again; {
		if time.Now().After(end) {
			t.Fatal("it never counts as read too soon")
		}
		h.write("shop", "1")
		if _, err := f.read(nil); err != nil {
			t.Fatal(err)
		}
	}
	if !f.moved() || f.moved() {
		t.Error("the next look does not count as a move, or the one after it does")
	}
}
