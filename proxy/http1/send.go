package http1

import (
	"fmt"
	"io"
)

// Send writes a request: head, complete with framing fields and the final empty line, and body, nil for none. A body that was
// chunked is sent chunked, any other as it is. What is at hand of the body goes out with the head in one write; if more is to
// come, a goroutine streams it on while ReadHead and the response go their way, until its end or until Close or Release. A request
// that is at hand as a whole goes out when ReadHead is called, which then need not look for an answer that cannot be there yet. The head
// is not used after that; body belongs to the goroutine until then. 100 Continue is sent to the client when it waits for it.
//
// Errors: ErrServerClosed, ErrUpstream{ErrIdleTimeout}, ErrCanceled; or the body's own, ErrClient or ErrBodyTooLarge. Of what goes out
// later ReadHead returns them.
func (u *UpConn) Send(head []byte, body *Body) error {
	if err := u.ended(); err != nil {
		return err
	}
	if body == nil || body.kind == bodyNone {
		if u.sendsLater() {
			u.sendLater(head, nil)
			return nil
		}
		if err := u.look(); err != nil {
			return err
		}
		if err := u.out.write(head); err != nil {
			return u.writeError(err)
		}
		u.sent = true
		return nil
	}
	if body.kind == bodyLength && body.Received() && u.sendsLater() {
		view, err := body.ready(maxInt)
		if err != nil && err != io.EOF {
			return err
		}
		u.sendLater(head, view)
		return nil
	}
	u.out.take()
	u.out.held = append(u.out.held[:0], head...)
	u.out.chunked = body.kind == bodyChunks
	if err := u.look(); err != nil { // before anything is taken of the body
		return err
	}
	whole, err := u.sendReady(body)
	if err == nil && whole && !u.Sent() && u.sendsLater() {
		u.sendLater(u.out.held, nil)
		u.out.held = u.out.held[:0]
		return nil
	}
	if err == nil {
		if err := u.out.flush(); err != nil {
			return u.writeError(err)
		}
	}
	if err != nil {
		return err
	}
	if whole {
		u.sent = true
		return nil
	}
	if body.conn != nil {
		if err := body.conn.Continue(); err != nil {
			return err
		}
	}
	if u.sendDone == nil {
		u.sendDone = make(chan struct{}, 1)
	}
	u.request = body
	u.sending = true
	body.lent = true
	go u.stream()
	return nil
}

// sendsLater tells whether ReadHead can send a whole request.
func (u *UpConn) sendsLater() bool { return edges && u.in.raw != nil }

// sendLater leaves head and body to ReadHead. The body lies in the client's buffer, of which nothing more is read.
func (u *UpConn) sendLater(head, body []byte) {
	u.out.parts = [3][]byte{head, body}
	u.sent, u.unsent = true, true
}

// sendReady puts out what is at hand of the body; whole tells that this was all.
func (u *UpConn) sendReady(body *Body) (whole bool, err error) {
	for {
		view, err := body.ready(maxInt)
		if err == io.EOF {
			u.out.end(body.trailers)
			return true, nil
		}
		if err != nil {
			return false, err
		}
		if len(view) == 0 {
			return false, nil
		}
		if err := u.out.put(view); err != nil {
			return false, u.writeError(err)
		}
	}
}

const maxInt = int(^uint(0) >> 1)

// stream is the goroutine that sends the rest of the request body.
func (u *UpConn) stream() {
	defer func() {
		u.sendDone <- struct{}{}
	}()
	defer func() {
		if v := recover(); v != nil {
			u.sendStopped(ErrClient{fmt.Errorf("http1: panic while streaming a body: %v", v)}, false)
		}
	}()
	u.sendStopped(u.pump())
}

// pump copies the body until its end; whole tells that the server has taken all of it. err is why it cannot be copied on: the body's, or
// the server's when that was silent for too long. There is none when the server has closed: it may have said why.
func (u *UpConn) pump() (err error, whole bool) {
	body := u.request
	var scratch []byte
	if body.kind == bodyLength && body.left >= bulkFrom {
		scratch = takeBuffer(bigSize)
		defer giveBuffer(scratch)
	}
	for {
		if len(u.out.held) == 0 {
			_, _, readErr, writeErr := body.spliceTo(&u.out)
			if readErr != nil {
				return readErr, false
			}
			if writeErr != nil {
				return u.untaken(writeErr), false
			}
		}
		view, err := body.next(scratch, maxInt)
		if err == io.EOF {
			break
		}
		if err != nil {
			return err, false
		}
		if err := u.out.put(view); err != nil {
			return u.untaken(err), false
		}
		if body.in.pos == body.in.end || len(u.out.held) >= smallCopy {
			if err := u.out.flush(); err != nil {
				return u.untaken(err), false
			}
		}
	}
	u.mu.Lock()
	u.ending = true
	u.mu.Unlock()
	u.out.end(body.trailers)
	if err := u.out.flush(); err != nil {
		return u.untaken(err), false
	}
	return nil, true
}

// untaken is what a failed write of the body means to pump.
func (u *UpConn) untaken(err error) error {
	if isTimeout(err) {
		return ErrUpstream{ErrIdleTimeout}
	}
	return nil
}

// sendStopped notes how streaming ended. When the body could not be read on, the exchange is over: the server must not take a
// part for the whole, and ReadHead need not wait; so it is when the server took nothing for too long, unless it has answered without
// that. When it closed, ReadHead may still find its answer.
func (u *UpConn) sendStopped(bodyErr error, whole bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.sending = false
	u.ending = whole
	if _, silent := bodyErr.(ErrUpstream); bodyErr == errStopped || silent && u.answered {
		return
	}
	if bodyErr != nil {
		u.bodyErr = bodyErr
		_ = u.nc.Close()
		return
	}
	if u.awaiting {
		var d deadline
		d.read(u.nc, u.cfg.FirstByte)
	}
}

// BodyErr is why the request body could not be streamed to its end: ErrClient, ErrBodyTooLarge, ErrUpstream{ErrIdleTimeout}, or nil.
func (u *UpConn) BodyErr() error {
	if u.request == nil {
		return nil
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.bodyErr
}

// sendEnded waits for the streaming goroutine when it has read all of the body; true when all of it was sent.
func (u *UpConn) sendEnded() bool {
	if u.request == nil {
		return false
	}
	u.mu.Lock()
	ending := u.ending
	u.mu.Unlock()
	if !ending {
		return false
	}
	// The server has answered in full and the last bytes are on their way: a server that does not take them runs into Idle.
	u.joinSend()
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.ending && u.bodyErr == nil
}

// joinSend ends the streaming goroutine, if there is one, and makes the body the caller's again.
func (u *UpConn) joinSend() {
	body := u.request
	if body == nil {
		return
	}
	u.mu.Lock()
	stop := !u.ending
	u.mu.Unlock()
	if stop {
		body.in.stop()
	}
	<-u.sendDone
	if stop {
		body.in.resume()
	}
	body.lent = false
	u.request = nil
}
