// locks is a program of which two cannot live at one time: it locks its data file, as bolt,
// badger and others do, and ends if somebody else has it. Its arguments are the file and the
// address, "sdk" where it is built on the worker package. It takes STARTS (a duration) to
// start, and answers with RELEASE, the count of who has had the lock, and its process.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/masterd/masterd/pkg/worker"
)

func main() {
	log.SetFlags(0)
	release := os.Getenv("RELEASE")
	data, err := os.OpenFile(os.Args[1], os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		log.Fatal(err)
	}
	how := syscall.LOCK_EX | syscall.LOCK_NB
	if release == "patient" { // it waits for the lock, and says nothing
		how = syscall.LOCK_EX
	}
	if err := syscall.Flock(int(data.Fd()), how); err != nil {
		log.Fatalf("opening the data: lock %s: %v", os.Args[1], err)
	}
	count := lives(data)
	if d, err := time.ParseDuration(os.Getenv("STARTS")); err == nil {
		time.Sleep(d)
	}
	if release == "bad" {
		log.Fatal("the data is of a newer version than this program")
	}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if release == "sick" && r.URL.Path == "/health" {
			http.Error(w, "sick", http.StatusInternalServerError)
			return
		}
		if r.URL.Path == "/die" {
			os.Exit(3)
		}
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("X-Worker-Version", release)
		fmt.Fprintf(w, "%s %d %d\n", release, count, os.Getpid())
	})
	if len(os.Args) > 3 {
		w := worker.New(worker.Options{})
		w.Handle("http", handler, worker.Address(os.Args[2]))
		if err := w.Run(context.Background()); err != nil {
			log.Fatal(err)
		}
		return
	}
	serve(handler)
}

// lives adds to the count in the data of those who have had it.
func lives(data *os.File) int {
	text, _ := io.ReadAll(data)
	n, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	n++
	if _, err := data.WriteAt(fmt.Appendf(nil, "%d\n", n), 0); err != nil {
		log.Fatal(err)
	}
	return n
}

// serve ends gracefully, as most programs do.
func serve(handler http.Handler) {
	listener, err := listen()
	if err != nil {
		log.Fatal(err)
	}
	s := &http.Server{Handler: handler}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		<-ctx.Done()
		_ = s.Shutdown(context.Background())
	}()
	if err := s.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		log.Fatal(err)
	}
	<-ended
}

func listen() (net.Listener, error) {
	if os.Getenv("LISTEN_FDS") != "" {
		return net.FileListener(os.NewFile(3, "listener"))
	}
	return net.Listen("tcp", os.Args[2])
}
