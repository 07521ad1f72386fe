//go:build !linux

package process

import "errors"

// consumption is read from Linux's /proc.
func consumption(map[string]int) (map[string]consumed, error) {
	return nil, errors.New("what processes use is measured on Linux only")
}
