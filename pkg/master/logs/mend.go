package logs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// Mend makes the directory again if it is gone, so that the output of new workers
// has a place. What the others have open is read on, though it has no name any
// more; only the next master cannot find it.
func (r *Collector) Mend() (mended bool, err error) {
	err = os.Mkdir(r.opt.Dir, 0o700)
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("the directory for workers' output cannot be made: %w", err)
	}
	r.do(func() {
		if r.watch != nil {
			_ = r.watch.Add(r.opt.Dir) // without it, it is slower
		}
	})
	return true, nil
}
