package proxy

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// gate is a writer that takes nothing until it is open, and fails while broken.
type gate struct {
	entered, open chan bool
	lockedBuffer
}

func (g *gate) Write(p []byte) (int, error) {
	select {
	case g.entered <- true:
	default:
	}
	<-g.open
	return g.lockedBuffer.Write(p)
}

// A reader that stalls holds up nobody: lines are dropped, the lesser ones first, and their number is told where they
// are missing.
func TestLogWriterDropsAndTells(t *testing.T) {
	out := &gate{entered: make(chan bool, 1), open: make(chan bool)}
	log := NewLogWriter(out, func(lost int) []byte { return fmt.Appendf(nil, "lost %d\n", lost) })
	line := func(name string, i int) []byte {
		return fmt.Appendf(nil, "%s %d %s\n", name, i, strings.Repeat("x", 1000))
	}
	write := func(w io.Writer, name string, n int) {
		for i := range n {
			if _, err := w.Write(line(name, i)); err != nil {
				t.Fatal(err)
			}
		}
	}
	const all = 2 * logLargest / 1000
	write(log, "first", 1)
	<-out.entered
	write(log.Lesser(), "lesser", all)
	write(log, "own", 10)
	lost := log.Lost()
	if lost < all/2 {
		t.Errorf("%d lesser lines are lost", lost)
	}
	write(log.Lesser(), "late", 1)
	write(log, "more", all)
	if lost = log.Lost(); lost < all {
		t.Errorf("%d lines are lost", lost)
	}
	begun := time.Now()
	if log.Flush(); time.Since(begun) > 10*logPatience {
		t.Errorf("a flush took %s", time.Since(begun))
	}
	close(out.open)
	log.Flush()
	write(log, "after", 1)
	if err := log.Close(); err != nil {
		t.Error(err)
	}
	var got []string
	for l := range strings.Lines(out.b.String()) {
		got = append(got, l)
	}
	told := fmt.Sprintf("lost %d\n", lost)
	if n := len(got); n < 3 || got[0] != string(line("first", 0)) || got[1] != string(line("lesser", 0)) || got[n-2] != told || got[n-1] != string(line("after", 0)) {
		t.Errorf("%d lines, the last %.20q, not %q", n, got[max(0, n-2):], told)
	}
	text := out.b.String()
	for i := range 10 {
		if !strings.Contains(text, string(line("own", i))) {
			t.Errorf("own line %d is lost", i)
		}
	}
	if strings.Contains(text, "late") {
		t.Error("a lesser line is there that came when half of the room was taken")
	}
}

// What waits goes to the writer that it was meant for, and a failure is counted and told to the next one.
func TestLogWriterRedirect(t *testing.T) {
	var first, second bytes.Buffer
	log := NewLogWriter(&first, func(lost int) []byte { return fmt.Appendf(nil, "lost %d\n", lost) })
	fmt.Fprintln(log, "one")
	log.Redirect(&second)
	fmt.Fprintln(log, "two")
	broken, err := os.Open(filepath.Join(t.TempDir())) // a folder takes no lines
	if err != nil {
		t.Fatal(err)
	}
	defer broken.Close()
	log.Redirect(broken)
	fmt.Fprint(log, "three\nfour\n")
	log.Redirect(&second)
	fmt.Fprintln(log, "five")
	if err := log.Close(); err != nil {
		t.Error(err)
	}
	if got, want := first.String()+"|"+second.String(), "one\n|two\nfive\nlost 2\n"; got != want {
		t.Errorf("%q, not %q", got, want)
	}
}

// An access log whose reader stalls can be flushed, reopened and closed nevertheless.
func TestAccessLogOfAStalledReader(t *testing.T) {
	out := &gate{entered: make(chan bool, 1), open: make(chan bool)}
	defer close(out.open)
	log, err := NewAccessLog("json", out)
	if err != nil {
		t.Fatal(err)
	}
	log.add([]byte("one\n"))
	<-out.entered
	ended := make(chan bool)
	go func() {
		defer close(ended)
		log.Flush()
		if err := log.Reopen(); err != nil {
			t.Error(err)
		}
		if err := log.Close(); err == nil {
			t.Error("what was not written is not said")
		}
	}()
	select {
	case <-ended:
	case <-time.After(20 * logPatience):
		t.Fatal("they wait for the reader")
	}
}
