package main

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/masterd/masterd/pkg/worker"
)

const maxTable = 4096 // MiB

// table stands for a model, an index, a dictionary: large, the same for all,
// only read. The first process that needs it makes it and has the master keep
// it; the others, those of the next version too, map what is there. However
// many versions run, there is one copy.
type table struct {
	w       *worker.Worker
	size    int64
	mapping *worker.Mapping
}

func newTable(w *worker.Worker, mib int) *table { return &table{w: w, size: int64(mib) << 20} }

// name has the size in it, as one of a real program has a version: what another
// version's table is, is not guessed.
func (t *table) name() string { return fmt.Sprintf("table-%d", t.size) }

// load is given to BeforeReady.
func (t *table) load(ctx context.Context) (err error) {
	if t.size == 0 {
		return nil
	}
	t.mapping, err = t.w.MapKept(ctx, t.name())
	if errors.Is(err, worker.ErrNotKept) {
		if err = t.w.KeepFrom(ctx, t.name(), io.LimitReader(&rows{}, t.size), t.size); err != nil {
			return err
		}
		t.mapping, err = t.w.MapKept(ctx, t.name())
	}
	return err
}

func (t *table) close() {
	if t.mapping != nil {
		t.mapping.Close()
	}
}

// get reads all of it.
func (t *table) get(c *gin.Context) {
	if t.mapping == nil {
		c.String(http.StatusNotFound, "there is no table; see -table")
		return
	}
	b := t.mapping.Bytes()
	c.JSON(http.StatusOK, gin.H{"size": len(b), "crc32": crc32.ChecksumIEEE(b)})
}

// rows is what a table is made of.
type rows struct{ n byte }

func (r *rows) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = r.n
		r.n += 7
	}
	return len(b), nil
}
