package main

import (
	"io"
	"net/http"
	"sync"

	"github.com/gin-gonic/gin"
)

const (
	maxItems = 10_000   // the list forgets its oldest beyond these
	maxItem  = 64 << 10 // bytes of one item
)

// list lives in this process alone: what a rollover does to state in memory is
// there to be seen.
type list struct {
	mu    sync.Mutex
	items []string
}

func (l *list) get(c *gin.Context) {
	l.mu.Lock()
	items := append([]string{}, l.items...)
	l.mu.Unlock()
	c.JSON(http.StatusOK, gin.H{"items": items})
}

func (l *list) add(c *gin.Context) {
	body, err := io.ReadAll(http.MaxBytesReader(c.Writer, c.Request.Body, maxItem))
	if err != nil {
		c.String(http.StatusRequestEntityTooLarge, "an item has at most %d bytes", maxItem)
		return
	}
	l.mu.Lock()
	l.items = append(l.items, string(body))
	if over := len(l.items) - maxItems; over > 0 {
		l.items = append([]string{}, l.items[over:]...)
	}
	n := len(l.items)
	l.mu.Unlock()
	c.JSON(http.StatusCreated, gin.H{"items": n})
}
