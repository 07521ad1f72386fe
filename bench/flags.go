package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
)

// command is one command of the bench while it runs: its flags, and what is the same in all of them.
type command struct {
	*flag.FlagSet
	asJSON         *bool
	stdout, stderr io.Writer
}

// newCommand is `bench NAME usage`, with --json.
func newCommand(name, usage string, stdout, stderr io.Writer) *command {
	c := &command{FlagSet: flag.NewFlagSet("bench "+name, flag.ContinueOnError), stdout: stdout, stderr: stderr}
	c.SetOutput(stderr)
	c.Usage = func() {
		fmt.Fprintf(stderr, "usage: go run ./bench %s %s\n", name, usage)
		c.PrintDefaults()
	}
	c.asJSON = c.Bool("json", false, "print one JSON object at the end")
	return c
}

// parse reads the flags. When it is not ok the command ends with code.
func (c *command) parse(args []string) (code int, ok bool) {
	switch err := c.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0, false
	case err != nil:
		return 2, false
	}
	return 0, true
}

// wrong says what is wrong with the flags; its result is the exit code.
func (c *command) wrong(format string, v ...any) int {
	c.say(fmt.Errorf(format, v...))
	return 2
}

// failed says what went wrong; its result is the exit code.
func (c *command) failed(err error) int {
	c.say(err)
	return 1
}

func (c *command) say(err error) { fmt.Fprintf(c.stderr, "%s: %v\n", c.Name(), err) }

// screen is where progress is shown: where the result is, unless that is for a program.
func (c *command) screen() io.Writer {
	if *c.asJSON {
		return c.stderr
	}
	return c.stdout
}

// report prints the result; its own result is the exit code, 1 where good is false.
func (c *command) report(result interface{ print(w io.Writer) }, good bool) int {
	if !*c.asJSON {
		result.print(c.stdout)
	} else if err := json.NewEncoder(c.stdout).Encode(result); err != nil {
		return 1
	}
	if !good {
		return 1
	}
	return 0
}
