// The server that the tests put into an image: it answers with its environment, ends on SIGTERM, or ends at
// once with a status when told to. It may also keep a core busy, and hold memory.
package main

import (
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
)

func main() {
	exit := flag.Int("exit", -1, "end at once with this status")
	stubborn := flag.Bool("stubborn", false, "do not heed SIGTERM")
	burn := flag.Bool("burn", false, "use all of a core that can be had")
	hold := flag.Int("hold", 0, "hold that many MiB of memory")
	flag.Parse()
	held := make([]byte, *hold<<20)
	for i := range held {
		held[i] = byte(i) // else the kernel would not give it
	}
	defer runtime.KeepAlive(held)
	if *burn {
		go func() {
			for {
			}
		}()
	}
	if *exit >= 0 {
		fmt.Println("model weights not found")
		fmt.Fprintln(os.Stderr, "giving up")
		os.Exit(*exit)
	}
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	go func() {
		err := http.ListenAndServe(":8000", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintln(w, strings.Join(os.Environ(), "\n"))
		}))
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}()
	for range term {
		if !*stubborn {
			fmt.Println("told to end")
			return
		}
	}
}
