// Replica is what the tests run in containers: it answers every request with 200, and ends at
// SIGTERM only when told to.
package main

import (
	"flag"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	addr := flag.String("listen", ":8000", "address")
	linger := flag.Duration("linger", 0, "time between SIGTERM and the end")
	flag.Parse()
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		for s := range asked {
			if s == syscall.SIGTERM {
				time.Sleep(*linger)
				os.Exit(0)
			}
		}
	}()
	if err := http.ListenAndServe(*addr, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Write([]byte("ok"))
	})); err != nil {
		panic(err)
	}
}
