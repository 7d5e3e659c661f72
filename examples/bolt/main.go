// Bolt is a small service whose data is in a file that one process alone can open, so that two
// versions of it cannot run at one time. It knows nothing of masterd.
//
//	GET /         counts, and answers how often that was
//	GET /healthz  ok
package main

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"log"
	"net/http"
	"os/signal"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
)

const (
	lockWait = time.Second      // for the file, while another process has it
	endWait  = 10 * time.Second // for requests that have begun
)

var (
	bucket = []byte("counts")
	key    = []byte("requests")
)

func main() {
	listen := flag.String("listen", "127.0.0.1:8000", "serve on `ADDRESS`")
	data := flag.String("data", "counts.db", "keep the data in `FILE`")
	flag.Parse()
	if err := run(*listen, *data); err != nil {
		log.Fatal(err)
	}
}

func run(listen, data string) error {
	db, err := bbolt.Open(data, 0o600, &bbolt.Options{Timeout: lockWait})
	if err != nil {
		return fmt.Errorf("opening %s: %w", data, err)
	}
	server := &http.Server{Addr: listen, Handler: handler(db), ReadHeaderTimeout: 10 * time.Second}
	ended, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	shut := make(chan error, 1)
	go func() {
		<-ended.Done()
		late, cancel := context.WithTimeout(context.Background(), endWait)
		defer cancel()
		shut <- server.Shutdown(late)
	}()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return errors.Join(err, db.Close())
	}
	return errors.Join(<-shut, db.Close())
}

func handler(db *bbolt.DB) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		n, err := count(db)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		fmt.Fprintln(w, n)
	})
	return mux
}

// count adds one. Batch puts requests that come together into one transaction, which costs one
// fsync.
func count(db *bbolt.DB) (n uint64, err error) {
	err = db.Batch(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists(bucket)
		if err != nil {
			return err
		}
		n = 1
		if was := b.Get(key); len(was) == 8 {
			n += binary.BigEndian.Uint64(was)
		}
		return b.Put(key, binary.BigEndian.AppendUint64(nil, n))
	})
	return n, err
}
