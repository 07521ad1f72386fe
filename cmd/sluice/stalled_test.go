package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// unread is a pipe that somebody holds and does not read.
func unread(t *testing.T) (reader, writer *os.File) {
	t.Helper()
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { reader.Close(); writer.Close() })
	return reader, writer
}

// Access lines that nobody reads hold up neither requests nor the end.
func TestAccessLogThatNobodyReads(t *testing.T) {
	s := prepare(t, "[[route]]\nrespond = \"hi\"\n")
	_, s.stdout = unread(t)
	s.launch()
	s.waitReady()
	long := strings.Repeat("x", 4000)
	for range 100 { // more than a pipe holds
		if code, _, err := fetch(s.url + "/" + long); err != nil || code != 200 {
			t.Fatalf("%d, %v", code, err)
		}
	}
	time.Sleep(600 * time.Millisecond) // the lines are on their way
	s.signal(syscall.SIGTERM)
	if code := s.exitCode(10 * time.Second); code != exitOK {
		t.Errorf("exit code %d", code)
	}
}

// A chatty replica and a log that nobody reads hold up nothing: scaling, the admin API, other upstreams and the end. Once it
// is read again, it says how much is missing.
func TestLogThatNobodyReads(t *testing.T) {
	chatty := `[[route]]
path = "/chatty"
upstream = "chatty"
[upstream.chatty]
process = { command = ["sh", "-c", "head -c 9000000 /dev/zero | tr '\\0' x | fold -w 99; exec $SLUICE demo-backend --port $PORT"], stop_grace = "1s" }
scale = { min = 0, max = 1, start_time = "1s" }
`
	s := prepare(t, demo(`"--service-time", "1ms"`, "scale = { min = 1, max = 3, start_time = \"1s\" }\n")+chatty)
	reader, writer := unread(t)
	s.stderr = writer
	s.launch()
	s.waitReady()
	s.waitReplicas("demo", 1, 20*time.Second)
	if code, _, err := fetch(s.url + "/chatty"); err != nil || code != 200 { // started, after all it wrote
		t.Fatalf("the chatty upstream: %d, %v", code, err)
	}
	s.pin("demo", 2)
	s.waitReplicas("demo", 2, 20*time.Second)
	if code, _, err := fetch(s.url); err != nil || code != 200 {
		t.Errorf("%d, %v", code, err)
	}
	told := make(chan string)
	go func() {
		defer close(told)
		for lines := bufio.NewScanner(reader); lines.Scan(); {
			if strings.Contains(lines.Text(), "lines of this log are lost") {
				told <- lines.Text()
				return
			}
		}
	}()
	select {
	case <-told:
	case <-time.After(20 * time.Second):
		t.Error("it is not said that lines are lost")
	}
}

// Neither the end nor a second signal waits for who reads the log.
func TestEndWithALogThatNobodyReads(t *testing.T) {
	for _, signals := range []int{1, 2} {
		t.Run(fmt.Sprint(signals), func(t *testing.T) {
			s := prepare(t, "shutdown_delay = \"1s\"\n[[route]]\nrespond = \"hi\"\n")
			_, writer := unread(t)
			s.stdout, s.stderr = writer, writer
			fill(t, writer)
			s.launch()
			s.waitReady()
			for range signals {
				s.signal(syscall.SIGTERM)
				time.Sleep(100 * time.Millisecond)
			}
			if code := s.exitCode(10 * time.Second); code != exitOK {
				t.Errorf("exit code %d", code)
			}
		})
	}
}

// fill writes until the pipe takes no more.
func fill(t *testing.T, pipe *os.File) {
	t.Helper()
	if err := pipe.SetWriteDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := pipe.Write(make([]byte, 1)); err != nil {
			break
		}
	}
}

// Who reads the log may go: sluice serves on, a command ends as commands do.
func TestReaderOfTheLogLeaves(t *testing.T) {
	s := prepare(t, "[[route]]\nrespond = \"hi\"\n")
	reader, writer := unread(t)
	s.stdout, s.stderr = writer, writer
	s.launch()
	writer.Close()
	s.waitReady()
	reader.Close()
	for range 3 {
		if code, _, err := fetch(s.url); err != nil || code != 200 {
			t.Fatalf("%d, %v", code, err)
		}
		s.signalReload() // it is logged
	}
	s.signal(syscall.SIGTERM)
	if code := s.exitCode(10 * time.Second); code != exitOK {
		t.Errorf("exit code %d, %s", code, s.cmd.ProcessState)
	}

	cmd := exec.Command(binary(t, "sluice"), "version")
	reader, writer = unread(t)
	reader.Close()
	cmd.Stdout = writer
	if err := cmd.Run(); err == nil || !strings.Contains(err.Error(), "broken pipe") {
		t.Errorf("sluice version into a closed pipe: %v", err)
	}
}

// The last word of a start that fails comes last, whatever the log has before it.
func TestLastWordOfAFailedStart(t *testing.T) {
	s := start(t, "[[route]]\nrespond = \"hi\"\n")
	code, _, said := commandOutput(t, "run", "-c", s.file)
	lines := strings.Split(strings.TrimSpace(said), "\n")
	if last := lines[len(lines)-1]; code != exitFailed || !strings.HasPrefix(last, "sluice: ") {
		t.Errorf("exit code %d, said %q", code, said)
	}
	_, writer := unread(t)
	fill(t, writer)
	cmd := exec.Command(binary(t, "sluice"), "run", "-c", s.file)
	cmd.Stdout, cmd.Stderr = io.Discard, writer
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan bool)
	go func() { _ = cmd.Wait(); close(ended) }()
	time.Sleep(time.Second) // it has failed by now, and has its last word to say
	for deadline := time.After(10 * time.Second); ; {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
			return
		case <-time.After(200 * time.Millisecond):
		case <-deadline:
			_ = cmd.Process.Kill()
			t.Fatal("a failed start with a log that nobody reads does not end by a signal")
		}
	}
}
