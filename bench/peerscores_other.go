//go:build !linux

package main

import (
	"errors"
	"os/exec"
)

var errNotLinux = errors.New("bench peers needs Linux: it pins processes to cores and reads /proc")

type cores struct {
	proxy, load []int
}

func chooseCores(bool) (cores, error)    { return cores{}, errNotLinux }
func pinSelf([]int) (func(), error)      { return nil, errNotLinux }
func startPinned(*exec.Cmd, []int) error { return errNotLinux }
