package admin

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/masterd/masterd/pkg/api"
)

// stream writes what comes as one JSON value a line, each at once, until the
// channel is closed, the reader goes away or stop is closed (nil: never). A
// reader that does not read within writeTimeout has gone away.
func stream[T any](c *gin.Context, from <-chan T, stop <-chan struct{}) {
	rc := http.NewResponseController(c.Writer)
	c.Header("Content-Type", api.StreamType)
	c.Header("Cache-Control", "no-store")
	c.Status(http.StatusOK)
	rc.SetWriteDeadline(time.Now().Add(writeTimeout))
	rc.Flush() // the headers say that it was taken up

	enc := json.NewEncoder(c.Writer)
	enc.SetEscapeHTML(false)
	for {
		select {
		case v, ok := <-from:
			rc.SetWriteDeadline(time.Now().Add(writeTimeout))
			if !ok {
				return // net/http still has the last chunk to write
			}
			if enc.Encode(v) != nil {
				return
			}
			// Many lines that wait go out together.
			if len(from) == 0 && rc.Flush() != nil {
				return
			}
		case <-c.Request.Context().Done():
			return
		case <-stop:
			rc.SetWriteDeadline(time.Now().Add(writeTimeout))
			return
		}
	}
}
