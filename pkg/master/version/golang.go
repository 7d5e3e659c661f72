package version

import (
	"bytes"
	"io"
)

// searchPiece is how many bytes of a program are searched at a time.
const searchPiece = 1 << 20

// Mentions reports whether a file is a Go program, and whether text is anywhere in it. What
// is not known is false: a file that cannot be read is no Go program. It is not executed.
func Mentions(path, text string) (isGo, mentions bool) {
	f, info, err := openProgram(path, 0)
	if err != nil {
		return false, false
	}
	defer f.Close()
	if info.Size() > maxProgram || readBuild(f) == nil {
		return false, false
	}
	there, err := search(f, []byte(text))
	if err != nil {
		return false, false
	}
	return true, there
}

// search looks for text, also where it goes from one piece into the next.
func search(r io.Reader, text []byte) (bool, error) {
	buf := make([]byte, len(text)+searchPiece)
	kept := 0
	for {
		n, err := r.Read(buf[kept : kept+searchPiece])
		if bytes.Contains(buf[:kept+n], text) {
			return true, nil
		}
		if err == io.EOF {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		all := buf[:kept+n]
		kept = copy(buf, all[max(0, len(all)-len(text)+1):])
	}
}
