package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"
)

// fullDevice takes nothing.
type fullDevice struct{}

func (fullDevice) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

// What could not be written is a failure, also for a command that does nothing else.
func TestUnwrittenOutputIsAFailure(t *testing.T) {
	g := still(t, "")
	file := configured(t, adminAt(g.addr)+"[engine]\nkind = \"none\"\n")
	for _, args := range [][]string{
		{"check", "-c", file}, {"check", "-T", "-c", file}, {"-T", "-c", file}, {"version"}, {"-v"}, {"help"}, {"-h"}, {"check", "-h"},
		{"explain", "/", "-c", file}, {"explain", "/", "--json", "-c", file}, {"explain", "http://a.example/", "-c", configured(t, adminAt(nobody(t)))},
		{"status", "-c", file}, {"status", "--json", "-c", file}, {"scale", "demo", "2", "-c", file}, {"drain", "demo/abc1", "-c", file},
	} {
		var errs bytes.Buffer
		env := Env{Stdout: fullDevice{}, Stderr: &errs, Getenv: func(string) string { return "" }}
		if code := sluice(context.Background(), env, args); code != exitFailed || !strings.Contains(errs.String(), "no space left") {
			t.Errorf("sluice %q: exit %d, %s", args, code, errs.String())
		}
		env.Stdout = new(bytes.Buffer)
		if code := sluice(context.Background(), env, args); code != exitOK {
			t.Errorf("sluice %q: exit %d where it can be written", args, code)
		}
	}
	if code := sluice(context.Background(), Env{Stdout: fullDevice{}, Stderr: fullDevice{}, Getenv: os.Getenv}, []string{"check", "-q", "-c", file}); code != exitOK {
		t.Errorf("exit %d of a command that has nothing to write", code)
	}
}

func TestOutputRemembersTheFirstFailure(t *testing.T) {
	o := &output{to: fullDevice{}}
	_, _ = o.Write([]byte("a"))
	o.to = new(bytes.Buffer)
	if _, err := o.Write([]byte("b")); err != nil || !errors.Is(o.err, syscall.ENOSPC) {
		t.Errorf("%v, %v", err, o.err)
	}
}
