// Chat is a chat room on pkg/worker whose members stay connected while its program
// is replaced under them: the example of HandOff and Receive, and of work that one
// process has at a time.
//
//	GET  /chat?after=SEQ  WebSocket of the room; what is sent comes to all as {"seq":…,"text":…}
//	GET  /events          the room as Server-Sent Events, after Last-Event-ID
//	GET  /healthz         200 ok
//
// CHAT_STATE=2 in the environment is another form of what members bring along from
// the version before (default 1); 0: it takes none.
package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"net/http"
	"os"
	"strconv"

	"github.com/gin-gonic/gin"

	"github.com/masterd/masterd/pkg/worker"
	"github.com/masterd/masterd/pkg/worker/ginworker"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "listen on `host:port` when nobody hands over a socket")
	flag.Parse()
	if err := run(*addr, cmp.Or(os.Getenv("CHAT_STATE"), strconv.Itoa(stateVersion))); err != nil {
		fmt.Fprintln(os.Stderr, "chat:", err)
		os.Exit(1)
	}
}

func run(addr, form string) error {
	state, err := strconv.Atoi(form)
	if err != nil || state < 0 {
		return fmt.Errorf("CHAT_STATE=%q is no number", form)
	}
	w := worker.New(worker.Options{})
	r := ginworker.New()
	r.Use(ginworker.Identify(cmp.Or(w.Info().Label, "dev")))
	r.GET("/healthz", func(c *gin.Context) { c.String(http.StatusOK, "ok") })
	w.Handle("http", r, worker.Address(addr))
	newChat(w, kept{w}, state).install(r)
	return w.Run(context.Background())
}
