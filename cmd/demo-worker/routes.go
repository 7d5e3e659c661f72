package main

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/masterd/masterd/pkg/worker"
)

// maxSlow is the longest answer that /slow takes.
const maxSlow = 10 * time.Minute

func routes(r *gin.Engine, w *worker.Worker, version string, j *job, l *list, tab *table) {
	started := time.Now()
	r.GET("/ping", func(c *gin.Context) { c.String(http.StatusOK, "pong") })
	r.GET("/readyz", gin.WrapH(w.Readiness()))
	r.GET("/job", func(c *gin.Context) { c.JSON(http.StatusOK, j.status()) })
	r.GET("/version", func(c *gin.Context) {
		info := w.Info()
		c.JSON(http.StatusOK, gin.H{
			"version":    version,
			"pid":        os.Getpid(),
			"worker":     info.Worker,
			"generation": info.Generation,
			"service":    info.Service,
			"state":      w.State(),
			"uptime":     time.Since(started).Round(time.Millisecond).String(),
			"job":        j.status(),
		})
	})
	r.GET("/slow", slow)
	r.POST("/upload", upload)
	r.GET("/stream", stream)
	r.GET("/ws", echo)
	r.GET("/list", l.get)
	r.POST("/list", l.add)
	r.GET("/table", tab.get)
}

// slow answers after d. A drain waits for it.
func slow(c *gin.Context) {
	d, err := time.ParseDuration(c.DefaultQuery("d", "1s"))
	if err != nil || d < 0 || d > maxSlow {
		c.String(http.StatusBadRequest, "d is a duration up to %v, like 2s", maxSlow)
		return
	}
	select {
	case <-time.After(d):
		c.String(http.StatusOK, "waited %v", d)
	case <-c.Request.Context().Done(): // nobody waits any more
	}
}

func upload(c *gin.Context) {
	sum := sha256.New()
	n, err := io.Copy(sum, c.Request.Body)
	if err != nil {
		c.String(http.StatusBadRequest, "the body ended early: %v", err)
		return
	}
	c.JSON(http.StatusOK, gin.H{"size": n, "sha256": hex.EncodeToString(sum.Sum(nil))})
}
