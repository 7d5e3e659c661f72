package main

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/coder/websocket"
	"github.com/gin-gonic/gin"

	"github.com/masterd/masterd/pkg/worker"
)

// leastEvery keeps a stream from being a load test.
const leastEvery = time.Millisecond

// stream sends Server-Sent Events until the client goes or the worker leaves.
// Browsers connect again by themselves, with the last id they have seen; they
// come to the version that has the traffic then.
func stream(c *gin.Context) {
	every, err := time.ParseDuration(c.DefaultQuery("every", "1s"))
	if err != nil || every < leastEvery {
		c.String(http.StatusBadRequest, "every is a duration of at least %v, like 1s", leastEvery)
		return
	}
	h := c.Writer.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	leaving := worker.Leaving(c)
	tick := time.NewTicker(every)
	defer tick.Stop()
	for n := 1; ; n++ {
		if _, err := fmt.Fprintf(c.Writer, "id: %d\ndata: tick %d\n\n", n, n); err != nil {
			return
		}
		c.Writer.Flush()
		select {
		case <-tick.C:
		case <-leaving:
			fmt.Fprint(c.Writer, "event: leaving\ndata: come again\n\n")
			return
		case <-c.Request.Context().Done():
			return
		}
	}
}

// echo sends each message back. When the worker leaves, the client is told to
// go away, which means: come back elsewhere.
func echo(c *gin.Context) {
	ws, err := websocket.Accept(c.Writer, c.Request, nil)
	if err != nil {
		return // it has answered
	}
	defer ws.CloseNow()
	over := make(chan struct{})
	closed := make(chan struct{})
	leaving := worker.Leaving(c)
	go func() {
		defer close(closed)
		select {
		case <-leaving:
			ws.Close(websocket.StatusGoingAway, "the worker is leaving")
		case <-over:
		}
	}()
	defer func() { close(over); <-closed }()
	for {
		kind, msg, err := ws.Read(c.Request.Context())
		if err != nil {
			var ce websocket.CloseError
			if !errors.As(err, &ce) {
				ws.Close(websocket.StatusProtocolError, "")
			}
			return
		}
		if ws.Write(c.Request.Context(), kind, msg) != nil {
			return
		}
	}
}
