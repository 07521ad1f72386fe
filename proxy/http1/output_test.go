package http1

import (
	"bytes"
	"errors"
	"net"
	"strings"
	"testing"
	"time"
)

// records is a connection that is not of the kernel, such as one of TLS, and keeps each Write.
type records struct {
	net.Conn
	all   []string
	fails int // this Write takes half and fails
}

func (r *records) SetWriteDeadline(time.Time) error { return nil }

func (r *records) Write(p []byte) (int, error) {
	if r.fails--; r.fails == 0 {
		r.all = append(r.all, string(p[:len(p)/2]))
		return len(p) / 2, errors.New("broken")
	}
	r.all = append(r.all, string(p))
	return len(p), nil
}

// Each Write of TLS is a record and a system call: what is short goes out in one, what is long in whole records.
func TestRecords(t *testing.T) {
	long := strings.Repeat("0123456789abcdef", 40<<10/16)
	for _, one := range []struct {
		parts [3]string
		sizes []int
	}{
		{[3]string{"head", "body", "\r\n"}, []int{10}},
		{[3]string{"", "body", ""}, []int{4}},
		{[3]string{"head", long, "\r\n"}, []int{recordSize, recordSize, 40<<10 + 6 - 2*recordSize}},
		{[3]string{"", long[:recordSize], ""}, []int{recordSize}},
	} {
		nc := &records{}
		var o output
		o.init(nc, nil)
		for i, p := range one.parts {
			o.parts[i] = []byte(p)
		}
		if err := o.writeParts(); err != nil {
			t.Fatal(err)
		}
		var sizes []int
		for _, p := range nc.all {
			sizes = append(sizes, len(p))
		}
		if strings.Join(nc.all, "") != strings.Join(one.parts[:], "") || len(sizes) != len(one.sizes) {
			t.Errorf("written in %v, want %v", sizes, one.sizes)
		}
		for i := range min(len(sizes), len(one.sizes)) {
			if sizes[i] != one.sizes[i] {
				t.Errorf("written in %v, want %v", sizes, one.sizes)
				break
			}
		}
		if n := o.written.Load(); n != int64(len(strings.Join(one.parts[:], ""))) {
			t.Errorf("%d bytes counted", n)
		}
	}
}

func TestRecordThatFails(t *testing.T) {
	nc := &records{fails: 2}
	var o output
	o.init(nc, nil)
	o.parts = [3][]byte{[]byte("head"), bytes.Repeat([]byte("x"), 2*recordSize)}
	err := o.writeParts()
	if err == nil || err.Error() != "broken" || o.written.Load() != recordSize+recordSize/2 {
		t.Errorf("%d bytes, %v", o.written.Load(), err)
	}
	o.stop()
	if err := o.write([]byte("more")); err != errStopped {
		t.Errorf("after stop: %v", err)
	}
}
