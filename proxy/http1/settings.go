package http1

import "time"

// Settings are the fields of a Server that may change while it serves.
type Settings struct {
	Limits                                Limits
	HeaderTimeout, BodyTimeout, KeepAlive time.Duration
	MaxConns                              int
}

// Configure takes new settings in place of the fields of the same names. Each connection follows with its next request.
func (s *Server) Configure(to Settings) { s.changed.Store(&to) }

// settings are those in force.
func (s *Server) settings() Settings {
	if to := s.changed.Load(); to != nil {
		return *to
	}
	return Settings{s.Limits, s.HeaderTimeout, s.BodyTimeout, s.KeepAlive, s.MaxConns}
}
