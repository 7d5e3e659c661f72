package watch

import (
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.uber.org/zap"
)

// rewatchRounds is how often a way is looked at again because directories were
// added to it: something may have changed in one before it was watched.
const rewatchRounds = 8

// rewatch watches the directories that the files' paths lead through now, and
// no others. A directory that was replaced by another of its name is watched
// anew.
func (s *scanner) rewatch() {
	for range rewatchRounds {
		s.names = map[string]map[string]bool{}
		for _, f := range s.files {
			route(f.path, s.names)
		}
		if !s.watchDirs() {
			return
		}
	}
}

// watchDirs tells whether a directory was added.
func (s *scanner) watchDirs() (added bool) {
	if s.kern == nil {
		return false
	}
	for dir := range s.dirs {
		if s.names[dir] == nil {
			_ = s.kern.Remove(dir) // it may be gone, and its watch with it
			delete(s.dirs, dir)
		}
	}
	for dir := range s.dark {
		if s.names[dir] == nil {
			delete(s.dark, dir)
		}
	}
	for dir := range s.names {
		st, err := os.Stat(dir)
		if err != nil {
			continue // gone since; its parent says so
		}
		known, ok := s.dirs[dir]
		if ok && os.SameFile(known, st) {
			continue
		}
		if ok {
			_ = s.kern.Remove(dir) // that of the directory which had the name before
			delete(s.dirs, dir)
		}
		switch err := s.kern.Add(dir); {
		case err == nil:
			s.dirs[dir] = st
			added = true
			if why := remote(dir); why != "" {
				s.darken(dir, zap.String("reason", "changes made elsewhere on "+why+" are not reported here"))
			} else {
				delete(s.dark, dir)
			}
		case os.IsNotExist(err):
		default:
			s.darken(dir, zap.Error(err))
		}
	}
	return added
}

// forget ends the watch on a directory that is gone from where it was, if it
// was one that is watched. Another that is made in its place may well get its
// inode number, and would be taken for it.
func (s *scanner) forget(dir string) {
	if s.dirs[dir] != nil {
		_ = s.kern.Remove(dir)
		delete(s.dirs, dir)
	}
}

// darken notes that nothing is reported on a directory, and says so once.
func (s *scanner) darken(dir string, why zap.Field) {
	if s.dark[dir] {
		return
	}
	s.dark[dir] = true
	s.look = time.Now().Add(pollEvery)
	s.log.Warn("changes in a directory are not reported; looking at the files instead",
		zap.String("directory", dir), zap.Duration("every", pollEvery), why)
}

// route finds the directories that a path leads through, without symbolic
// links in their own paths, and the names in each that decide where it leads:
// for /srv/current/shop, where current is a link to releases/42,
//
//	/                    srv
//	/srv                 current, releases
//	/srv/releases        42
//	/srv/releases/42     shop
//
// A name that does not exist ends the route: its coming is an event in the
// last directory found.
func route(path string, names map[string]map[string]bool) {
	dir, rest := "/", strings.Split(path, "/")
	links := 0
	for len(rest) > 0 {
		name := rest[0]
		rest = rest[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			dir = filepath.Dir(dir)
			continue
		}
		if names[dir] == nil {
			if len(names) == maxDirs {
				return
			}
			names[dir] = map[string]bool{}
		}
		names[dir][name] = true
		at := filepath.Join(dir, name)
		st, err := os.Lstat(at)
		if err != nil {
			return
		}
		if st.Mode()&os.ModeSymlink == 0 {
			if len(rest) > 0 && !st.IsDir() {
				return
			}
			dir = at
			continue
		}
		target, err := os.Readlink(at)
		if links++; err != nil || links > maxLinks {
			return
		}
		rest = append(strings.Split(target, "/"), rest...)
		if filepath.IsAbs(target) {
			dir = "/"
		}
	}
}
