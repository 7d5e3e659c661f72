// Redis-list is a small Gin service whose state is in Redis: the other way to
// have it survive a reload. (cmd/demo-worker has the same list kept with the
// master, without a database.)
//
//	GET  /ping     pong
//	GET  /healthz  ok
//	GET  /list     the list; POST adds the body as an item
package main

import (
	"cmp"
	"context"
	"io"
	"log"
	"net/http"
	"os"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/redis/go-redis/v9"

	"github.com/masterd/masterd/pkg/worker"
	"github.com/masterd/masterd/pkg/worker/ginworker"
)

const (
	key      = "list"
	maxItem  = 64 << 10         // bytes of one item
	maxItems = 100_000          // the list forgets its oldest beyond these
	patience = 5 * time.Second  // for one request to Redis
	meeting  = 10 * time.Second // for Redis to be there when the worker starts
	between  = 100 * time.Millisecond
)

func main() {
	if err := run(); err != nil {
		log.Fatal("redis-list: ", err)
	}
}

func run() error {
	options, err := redis.ParseURL(cmp.Or(os.Getenv("REDIS_URL"), "unix:///run/redis/redis-server.sock"))
	if err != nil {
		return err
	}
	// An RPUSH whose answer was lost may have been done: made again by the
	// client library, it would be there twice.
	options.MaxRetries = -1
	options.ReadTimeout, options.WriteTimeout = patience, patience
	db := redis.NewClient(options)
	defer db.Close()

	w := worker.New(worker.Options{})
	w.Handle("http", routes(db), worker.Address("127.0.0.1:8080"))
	// A version that cannot reach Redis never gets traffic: the reload fails and
	// the version before serves on. /healthz leaves Redis out: were it down, no
	// version would do better, and nothing is gained by rolling back.
	w.BeforeReady(func(ctx context.Context) error { return meet(ctx, db) })
	// The connections are closed after Run: a drain still needs them.
	return w.Run(context.Background())
}

func meet(ctx context.Context, db *redis.Client) error {
	ctx, cancel := context.WithTimeout(ctx, meeting)
	defer cancel()
	for {
		err := db.Ping(ctx).Err()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(between):
		}
	}
}

func routes(db *redis.Client) http.Handler {
	r := ginworker.New()
	r.GET("/ping", func(c *gin.Context) { c.String(http.StatusOK, "pong") })
	r.GET("/healthz", func(c *gin.Context) { c.String(http.StatusOK, "ok") })
	r.GET("/list", func(c *gin.Context) {
		items, err := db.LRange(c.Request.Context(), key, 0, -1).Result()
		if err != nil {
			c.String(http.StatusServiceUnavailable, "the list cannot be read: %v", err)
			return
		}
		c.JSON(http.StatusOK, gin.H{"items": items})
	})
	r.POST("/list", func(c *gin.Context) {
		body, err := io.ReadAll(http.MaxBytesReader(c.Writer, c.Request.Body, maxItem))
		if err != nil {
			c.String(http.StatusRequestEntityTooLarge, "an item has at most %d bytes", maxItem)
			return
		}
		// One step in Redis, so that it does not matter which process of which
		// version does it, or how many at once.
		var n *redis.IntCmd
		_, err = db.TxPipelined(c.Request.Context(), func(p redis.Pipeliner) error {
			n = p.RPush(c.Request.Context(), key, body)
			p.LTrim(c.Request.Context(), key, -maxItems, -1)
			return nil
		})
		if err != nil {
			c.String(http.StatusServiceUnavailable, "it is not known whether the item was added: %v", err)
			return
		}
		c.JSON(http.StatusCreated, gin.H{"items": min(n.Val(), maxItems)})
	})
	return r
}
