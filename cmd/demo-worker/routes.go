package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
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
	r.GET("/drip", drip)
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

const (
	maxDrip   = 1 << 30                // bytes of /drip
	dripEvery = 100 * time.Millisecond // between two pieces
)

// drip answers with n bytes of numbered lines, spread over d.
func drip(c *gin.Context) {
	d, err := time.ParseDuration(c.DefaultQuery("d", "1s"))
	n, nerr := strconv.Atoi(c.DefaultQuery("n", "1000000"))
	if err != nil || nerr != nil || d < dripEvery || d > maxSlow || n < 1 || n > maxDrip {
		c.String(http.StatusBadRequest, "d is a duration from %v to %v, like 30s; n a number of bytes up to %d", dripEvery, maxSlow, maxDrip)
		return
	}
	c.Header("Content-Length", strconv.Itoa(n))
	steps := int(d / dripEvery)
	tick := time.NewTicker(dripEvery)
	defer tick.Stop()
	var lines []byte
	for i, sent, line := 1, 0, 0; i <= steps; i++ {
		for due := n * i / steps; sent < due; line++ {
			lines = fmt.Appendf(lines[:0], "%015d\n", line)
			lines = lines[:min(len(lines), n-sent)]
			if _, err := c.Writer.Write(lines); err != nil {
				return
			}
			sent += len(lines)
		}
		c.Writer.Flush()
		select {
		case <-tick.C:
		case <-c.Request.Context().Done():
			return
		}
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
