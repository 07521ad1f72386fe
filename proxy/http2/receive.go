package http2

import (
	"time"

	h2 "golang.org/x/net/http2"
)

// Frames that mean the same to both ends. Each is called by the goroutine that reads, without the lock.

// spendNoise counts a frame that carries nothing.
func (l *link) spendNoise(n float64) error {
	if !l.noise.spend(n, time.Now()) {
		return connError{h2.ErrCodeEnhanceYourCalm, "too many frames that carry nothing"}
	}
	return nil
}

// spendBreak counts a stream that came to nothing because of the peer.
func (l *link) spendBreak() error {
	if !l.breaks.spend(1, time.Now()) {
		return connError{h2.ErrCodeEnhanceYourCalm, "too many streams are reset"}
	}
	return nil
}

// idle tells streams that nobody has opened (RFC 9113 §5.1).
func (l *link) idle(id uint32) bool { return id > max(l.lastID, l.ignored) || id%2 == 0 }

func (l *link) onData(f *h2.DataFrame) error {
	n, data := int(f.Length), f.Data()
	l.mu.Lock()
	defer l.unlock()
	if l.idle(f.StreamID) {
		return connError{h2.ErrCodeProtocol, "DATA on an idle stream"}
	}
	if !l.recv.receive(n) {
		return connError{h2.ErrCodeFlowControl, "more than the connection's window"}
	}
	switch {
	case len(data) >= fullData:
		l.noise.earn(earnedFrame)
	case len(data) == 0 && !f.StreamEnded():
		if err := l.spendNoise(emptyNoise); err != nil {
			return err
		}
	}
	s := l.streams[f.StreamID]
	if s == nil || s.recvEnded || !s.started {
		l.credit(n)
		if s == nil && (l.wasReset(f.StreamID) || f.StreamID > l.lastID) {
			return nil
		}
		return streamError{f.StreamID, h2.ErrCodeStreamClosed, "DATA on a closed stream"}
	}
	if !s.recv.receive(n) {
		l.credit(n)
		return streamError{s.id, h2.ErrCodeFlowControl, "more than the stream's window"}
	}
	s.received += int64(len(data))
	if declared := s.declared; declared >= 0 && (s.received > declared || f.StreamEnded() && s.received < declared) {
		l.credit(n)
		return streamError{s.id, h2.ErrCodeProtocol, "DATA of another length than content-length"}
	}
	if s.closed {
		l.credit(n)
	} else {
		s.in.write(data)
		s.credit(n - len(data))
	}
	if f.StreamEnded() {
		l.received(s)
	}
	s.readable.Signal()
	return nil
}

// received counts that END_STREAM has come. mu is held.
func (l *link) received(s *Stream) {
	s.recvEnded = true
	l.done(s)
}

func (l *link) onReset(f *h2.RSTStreamFrame) error {
	l.mu.Lock()
	defer l.unlock()
	if l.idle(f.StreamID) {
		return connError{h2.ErrCodeProtocol, "RST_STREAM on an idle stream"}
	}
	s := l.streams[f.StreamID]
	if s == nil {
		return l.spendNoise(1)
	}
	l.lose(s, reset{f.ErrCode})
	return l.spendBreak()
}

func (l *link) onWindowUpdate(f *h2.WindowUpdateFrame) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if f.Increment < usefulGrant {
		if err := l.spendNoise(1); err != nil {
			return err
		}
	}
	if f.StreamID == 0 {
		if !l.send.add(int64(f.Increment)) {
			return connError{h2.ErrCodeFlowControl, "the connection's window overflows"}
		}
		l.nextTurn()
		return nil
	}
	if l.idle(f.StreamID) {
		return connError{h2.ErrCodeProtocol, "WINDOW_UPDATE on an idle stream"}
	}
	s := l.streams[f.StreamID]
	if s == nil {
		return nil
	}
	if !s.send.add(int64(f.Increment)) {
		return streamError{s.id, h2.ErrCodeFlowControl, "the stream's window overflows"}
	}
	s.writable.Signal()
	return nil
}

func (l *link) onPing(f *h2.PingFrame) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.spendNoise(1); err != nil {
		return err
	}
	if err := l.answer(len(f.Data)); err != nil {
		return err
	}
	l.out = appendPing(l.out, h2.FlagPingAck, f.Data)
	return nil
}

func (l *link) onSettings(f *h2.SettingsFrame) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if f.IsAck() {
		return l.spendNoise(1)
	}
	if err := l.spendNoise(settingsNoise + float64(f.NumSettings())); err != nil {
		return err
	}
	for i := range f.NumSettings() {
		if err := l.setting(f.Setting(i)); err != nil {
			return err
		}
	}
	if err := l.answer(0); err != nil {
		return err
	}
	l.out = appendSettingsAck(l.out)
	return nil
}

// setting applies one setting of the peer (RFC 9113 §6.5.2). Those that bound what we never do mean nothing.
func (l *link) setting(s h2.Setting) error {
	switch s.ID {
	case h2.SettingHeaderTableSize:
		l.enc.enc.SetMaxDynamicTableSize(min(s.Val, 4096))
	case h2.SettingEnablePush:
		if s.Val > 1 || s.Val == 1 && l.client {
			return connError{h2.ErrCodeProtocol, "ENABLE_PUSH"}
		}
	case h2.SettingInitialWindowSize:
		if s.Val > maxWindow {
			return connError{h2.ErrCodeFlowControl, "INITIAL_WINDOW_SIZE"}
		}
		change := int64(s.Val) - l.initialWindow
		l.initialWindow = int64(s.Val)
		for _, st := range l.streams {
			if !st.send.add(change) {
				return connError{h2.ErrCodeFlowControl, "INITIAL_WINDOW_SIZE makes a window overflow"}
			}
			st.writable.Signal()
		}
	case h2.SettingMaxFrameSize:
		if s.Val < maxFrame || s.Val > 1<<24-1 {
			return connError{h2.ErrCodeProtocol, "MAX_FRAME_SIZE"}
		}
	}
	return nil
}
