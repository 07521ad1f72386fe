// hog is a server whose start goes as /mood/mood says: well, sick (it answers, and is never healthy) or eat (it takes
// memory until it is stopped) or work (every request takes some milliseconds of processor time).
package main

import (
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

func main() {
	text, err := os.ReadFile("/mood/mood")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	mood := strings.TrimSpace(string(text))
	if mood == "eat" {
		fmt.Println("loading far too much")
		var all [][]byte
		for {
			block := make([]byte, 4<<20)
			for i := range block {
				block[i] = byte(i)
			}
			all = append(all, block)
			time.Sleep(time.Millisecond)
			if len(all) > 1<<16 {
				return // 256 GiB: there is no bound
			}
		}
	}
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	go func() {
		<-term
		os.Exit(0)
	}()
	err = http.ListenAndServe(":8000", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/healthz" && mood == "sick" {
			http.Error(w, "weights are missing", http.StatusServiceUnavailable)
			return
		}
		if r.URL.Path != "/healthz" && mood == "work" {
			fmt.Fprintln(w, work(5_000_000))
			return
		}
		fmt.Fprintln(w, "well")
	}))
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// work computes n steps of a xorshift generator.
func work(n int) uint64 {
	x := uint64(88172645463325252)
	for range n {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
	}
	return x
}
