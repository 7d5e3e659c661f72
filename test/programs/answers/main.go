// answers is a server that has never heard of masterd, whose answers take their time: they
// pause, come in many pieces, or are streams. It serves on the address in its first
// argument. With a second one it speaks a protocol of lines instead, in which a
// transaction lasts from BEGIN to COMMIT.
package main

import (
	"bufio"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"
)

func main() {
	if len(os.Args) > 2 {
		lines(os.Args[1])
		return
	}
	r := &room{changed: make(chan struct{})}
	http.HandleFunc("/", func(w http.ResponseWriter, q *http.Request) {
		_, _ = io.Copy(io.Discard, q.Body)
		w.Header().Set("X-Worker-Version", os.Getenv("RELEASE"))
		fmt.Fprintln(w, os.Getenv("RELEASE"))
	})
	// /pieces?n=2&gap=3s: pieces of an answer, and what is between two of them.
	http.HandleFunc("/pieces", func(w http.ResponseWriter, q *http.Request) {
		n, _ := strconv.Atoi(q.FormValue("n"))
		for i := range n {
			if i > 0 {
				time.Sleep(duration(q, "gap"))
			}
			fmt.Fprintf(w, "%d\n", i)
			w.(http.Flusher).Flush()
		}
		fmt.Fprintln(w, "end")
	})
	http.HandleFunc("/poll", func(w http.ResponseWriter, q *http.Request) {
		time.Sleep(duration(q, "gap"))
		fmt.Fprintln(w, "end")
	})
	http.HandleFunc("/hints", func(w http.ResponseWriter, q *http.Request) {
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		time.Sleep(duration(q, "gap"))
		fmt.Fprintln(w, "end")
	})
	http.HandleFunc("/upload", func(w http.ResponseWriter, q *http.Request) {
		n, err := io.Copy(io.Discard, q.Body)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
		}
		fmt.Fprintln(w, n, "end")
	})
	http.HandleFunc("POST /say", r.say)
	http.HandleFunc("GET /events", r.events)
	log.Fatal(http.ListenAndServe(os.Args[1], nil))
}

func duration(q *http.Request, name string) time.Duration {
	d, _ := time.ParseDuration(q.FormValue(name))
	return d
}

// room is a chat room in memory: server-sent events for who listens.
type room struct {
	sync.Mutex
	said    []string
	changed chan struct{} // closed when somebody has said something
}

func (r *room) say(w http.ResponseWriter, q *http.Request) {
	text, _ := io.ReadAll(q.Body)
	r.Lock()
	defer r.Unlock()
	r.said = append(r.said, string(text))
	close(r.changed)
	r.changed = make(chan struct{})
	w.WriteHeader(http.StatusNoContent)
}

// events sends all that was said, to this process, since the number that the client gives.
func (r *room) events(w http.ResponseWriter, q *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	for next, _ := strconv.Atoi(q.Header.Get("Last-Event-ID")); ; {
		r.Lock()
		said, changed := r.said, r.changed
		r.Unlock()
		for ; next < len(said); next++ {
			fmt.Fprintf(w, "id: %s.%d\ndata: %s\n\n", os.Getenv("RELEASE"), next+1, said[next])
		}
		w.(http.Flusher).Flush()
		select {
		case <-changed:
		case <-q.Context().Done():
			return
		}
	}
}

// lines answers each line with one.
func lines(at string) {
	l, err := net.Listen("tcp", at)
	if err != nil {
		log.Fatal(err)
	}
	for {
		c, err := l.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go func() {
			defer c.Close()
			for in := bufio.NewScanner(c); in.Scan(); {
				if _, err := fmt.Fprintln(c, "OK", in.Text()); err != nil {
					return
				}
			}
		}()
	}
}
