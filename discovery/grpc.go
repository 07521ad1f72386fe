package discovery

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// The health protocol of gRPC (grpc.health.v1.Health/Check): a message with the name of a service, and one with a status. They are
// short enough to be written here.
const (
	grpcCheck   = "/grpc.health.v1.Health/Check"
	grpcServing = 1
	grpcMax     = 1 << 10 // of an answer
)

var errNotServing = errors.New("not serving")

// askGRPC asks a server whether it serves.
func (c *check) askGRPC(conn net.Conn, addr string, lim limits) error {
	name := c.GRPC
	if name == "*" {
		name = ""
	}
	status, err := c.callHealth(conn, addr, name)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("grpc health: %w within %s", errSilent, lim.total.Round(time.Millisecond))
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("grpc health: closed without an answer")
	case err != nil:
		return fmt.Errorf("grpc health: %w", err)
	case status != grpcServing:
		return fmt.Errorf("grpc health: %w: %s", errNotServing, servingStatus(status))
	}
	return nil
}

// callHealth makes the call and returns the status in its answer.
func (c *check) callHealth(conn net.Conn, addr, service string) (status uint64, err error) {
	x := exchanges.Get().(*exchange)
	defer exchanges.Put(x)
	x.r.Reset(conn)
	body := appendHealthRequest(nil, service)
	head := "POST " + grpcCheck + " HTTP/1.1\r\nHost: " + cmp.Or(c.Host, addr) + "\r\nContent-Type: application/grpc\r\n" +
		"Connection: TE\r\nTE: trailers\r\nUser-Agent: sluice-health-check\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n"
	if _, err := conn.Write(append([]byte(head), body...)); err != nil {
		return 0, err
	}
	res, err := http.ReadResponse(x.r, nil)
	for err == nil && res.StatusCode < 200 {
		_ = res.Body.Close()
		res, err = http.ReadResponse(x.r, nil)
	}
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("status %d", res.StatusCode)
	}
	if ct := res.Header.Get("Content-Type"); !strings.HasPrefix(ct, "application/grpc") {
		return 0, fmt.Errorf("the answer is no gRPC but %q", ct)
	}
	answer, err := io.ReadAll(io.LimitReader(res.Body, grpcMax))
	if err != nil {
		return 0, err
	}
	code, message := res.Trailer.Get("Grpc-Status"), res.Trailer.Get("Grpc-Message")
	if code == "" {
		code, message = res.Header.Get("Grpc-Status"), res.Header.Get("Grpc-Message")
	}
	switch code {
	case "0":
		return parseHealthAnswer(answer)
	case "5":
		return 0, fmt.Errorf("the server knows no service %q", service)
	case "12":
		return 0, errors.New("the server has no grpc.health.v1.Health")
	case "":
		return 0, errors.New("the answer has no grpc-status")
	}
	return 0, fmt.Errorf("grpc-status %s %s", code, message)
}

// appendHealthRequest writes HealthCheckRequest{service: 1} behind the prefix of a message: not compressed, and its length.
func appendHealthRequest(dst []byte, service string) []byte {
	var message []byte
	if service != "" {
		message = append(binary.AppendUvarint([]byte{1<<3 | 2}, uint64(len(service))), service...)
	}
	dst = binary.BigEndian.AppendUint32(append(dst, 0), uint32(len(message)))
	return append(dst, message...)
}

var errHealthAnswer = errors.New("the answer is no HealthCheckResponse")

// parseHealthAnswer reads HealthCheckResponse{status: 1}; fields that are not known are skipped.
func parseHealthAnswer(b []byte) (status uint64, err error) {
	if len(b) < 5 || b[0] != 0 || int(binary.BigEndian.Uint32(b[1:])) != len(b)-5 {
		return 0, errHealthAnswer
	}
	for b = b[5:]; len(b) > 0; {
		tag, n := binary.Uvarint(b)
		if n <= 0 {
			return 0, errHealthAnswer
		}
		b = b[n:]
		v, n := binary.Uvarint(b)
		switch tag & 7 {
		case 0:
		case 1:
			n = 8
		case 2:
			if n <= 0 || v > uint64(len(b)-n) {
				return 0, errHealthAnswer
			}
			n += int(v)
		case 5:
			n = 4
		default:
			n = 0
		}
		if n <= 0 || n > len(b) {
			return 0, errHealthAnswer
		}
		if tag == 1<<3 {
			status = v
		}
		b = b[n:]
	}
	return status, nil
}

func servingStatus(status uint64) string {
	switch status {
	case 0:
		return "UNKNOWN"
	case 2:
		return "NOT_SERVING"
	case 3:
		return "SERVICE_UNKNOWN"
	}
	return strconv.FormatUint(status, 10)
}
