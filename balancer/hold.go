package balancer

import "slices"

// Held names a server that Hold was called for.
type Held struct {
	ID   string `json:"id"`
	Addr string `json:"addr"`
}

// Hold is Drain asked by an operator, not by whoever scales: it passes to the process that takes over from this one.
func (s *Server) Hold() {
	s.held.Store(true)
	s.Drain()
}

// Held reports whether Hold was called and Enable was not.
func (s *Server) Held() bool { return s.held.Load() }

// Hold holds those of the first set, before any request can see them: what Held has told in the process before this
// one. Those that are not in it are forgotten. To be called before the first Update.
func (u *Upstream) Hold(servers []Held) {
	u.setMu.Lock()
	defer u.setMu.Unlock()
	u.holds = servers
}

// Held are the servers that Hold was called for and Enable was not; before the first Update those that it will hold.
func (u *Upstream) Held() []Held {
	u.setMu.Lock()
	defer u.setMu.Unlock()
	held := slices.Clone(u.holds)
	for _, s := range u.set.Load().all {
		if s.Held() {
			held = append(held, Held{s.id, s.addr})
		}
	}
	return held
}
