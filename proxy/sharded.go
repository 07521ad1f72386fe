package proxy

import "sync/atomic"

const shardCount = 64

// sharded holds what is counted by key in parts of T, each with a lock of its own. They are made when the first key is counted:
// most of ten thousand routes may have no request for days. It may be used concurrently; the zero value is ready.
type sharded[T any] struct {
	parts atomic.Pointer[[shardCount]T]
}

// of is the part that key is counted in.
func (s *sharded[T]) of(key uint64) *T {
	parts := s.parts.Load()
	if parts == nil {
		s.parts.CompareAndSwap(nil, new([shardCount]T))
		parts = s.parts.Load()
	}
	return &parts[key%shardCount]
}
