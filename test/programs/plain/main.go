// plain is what anybody writes who has never heard of masterd: it serves HTTP on
// the address in its argument.
package main

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
)

func main() {
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("X-Worker-Version", os.Getenv("RELEASE"))
		fmt.Fprintf(w, "%s %d\n", os.Getenv("RELEASE"), os.Getpid())
	})
	log.Fatal(http.ListenAndServe(os.Args[1], nil))
}
