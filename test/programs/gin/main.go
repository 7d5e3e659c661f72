// gin is a plain program of Gin's, as its first page has it.
package main

import (
	"io"
	"log"
	"net/http"
	"os"

	"github.com/gin-gonic/gin"
)

func main() {
	r := gin.New()
	r.Any("/*path", func(c *gin.Context) {
		_, _ = io.Copy(io.Discard, c.Request.Body)
		c.Header("X-Worker-Version", os.Getenv("RELEASE"))
		c.String(http.StatusOK, "%s %d\n", os.Getenv("RELEASE"), os.Getpid())
	})
	log.Fatal(r.Run(os.Args[1]))
}
