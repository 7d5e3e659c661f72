// plain is what anybody writes who has never heard of masterd: it serves HTTP on
// the address in its argument. With HEALTH in its environment it is well at that path
// alone, as programs differ.
package main

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strings"
)

func main() {
	health := os.Getenv("HEALTH")
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if health != "" && strings.HasPrefix(r.URL.Path, "/health") && r.URL.Path != health {
			http.NotFound(w, r)
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("X-Worker-Version", os.Getenv("RELEASE"))
		fmt.Fprintf(w, "%s %d\n", os.Getenv("RELEASE"), os.Getpid())
	})
	log.Fatal(http.ListenAndServe(os.Args[1], nil))
}
