package certs

import (
	"errors"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"
)

// stamp tells whether files are still those that were read: a file that was replaced, also one behind a symbolic link, has another.
type stamp struct{ cert, key Stamp }

// Stamp is what a file looks like from outside; the zero Stamp is that of a file that cannot be seen.
type Stamp struct {
	modified   time.Time
	size       int64
	dev, inode uint64
}

// StampOf looks at a file, behind all symbolic links.
func StampOf(path string) Stamp {
	info, err := os.Stat(path)
	if err != nil {
		return Stamp{}
	}
	s := Stamp{modified: info.ModTime(), size: info.Size()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		s.dev, s.inode = uint64(st.Dev), uint64(st.Ino) //nolint:unconvert // other types on other systems
	}
	return s
}

func stampOf(f Files) stamp { return stamp{StampOf(f.Cert), StampOf(f.Key)} }

// Refresh reads files that have changed. Where that cannot be used the certificate that was read before stays, and it is tried again with
// each Refresh. Connections are not touched: a handshake has the certificate that is there when it begins.
func (s *Store) Refresh(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.set.Load().all
	var next []*Certificate
	for i, c := range all {
		at := stampOf(c.Files)
		if at == s.stamps[c.Files] {
			if s.broken[c.Files] != "" { // what was there before is back
				delete(s.broken, c.Files)
			}
			continue
		}
		fresh, err := Load(c.Files)
		if err == nil && fresh.Expired(now) {
			err = &FileError{"cert", c.Files.Cert, errors.New("it has expired on " + fresh.Expiry().UTC().Format(time.DateTime))}
		}
		if err != nil {
			if said := err.Error(); s.broken[c.Files] != said {
				s.broken[c.Files] = said
				s.log.Error("a certificate that has changed cannot be used, the old one stays", "error", said)
			}
			continue
		}
		if next == nil {
			next = slices.Clone(all)
		}
		next[i] = fresh
		s.stamps[c.Files] = fresh.stamp
		delete(s.broken, c.Files)
		s.log.Info("certificate read again", "cert", c.Files.Cert, "names", strings.Join(fresh.names, " "), "until", fresh.Expiry().UTC().Format(time.DateTime))
	}
	if next != nil {
		s.set.Store(newSet(next))
	}
}

// Broken is how many certificates have changed into what cannot be used.
func (s *Store) Broken() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.broken)
}
