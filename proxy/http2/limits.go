package http2

import "time"

// What a peer may do that costs work and gives nobody anything. Each is counted against an allowance, which useful frames add to:
// a flood ends the connection with ENHANCE_YOUR_CALM before a second is over, and whoever only asks much is never near it.
const (
	// noise: frames that carry no message, such as PING, PRIORITY, SETTINGS, empty DATA and WINDOW_UPDATE (CVE-2019-9511 to
	// CVE-2019-9518).
	noiseBurst = 1000
	noiseRate  = 100
	// breaks: streams that were begun and not finished, reset by the peer (CVE-2023-44487) or because of what it sent
	// (CVE-2025-8671), or refused because there are too many. Each stream that ends well makes up for one.
	breakBurst = 500
	breakRate  = 33
)

const (
	settingsNoise = 10 // all windows change with it
	emptyNoise    = 5
	largeNoise    = 50 // a field list beyond the limit: it is cheap to say and costly to decode
	earnedRequest = 10
	earnedFrame   = 4 // of payload: the peer may well answer it with two WINDOW_UPDATE
	fullData      = 1 << 10
	// A peer that takes much says so often: WINDOW_UPDATE of at least so much is no noise. There can be two million of them before
	// a window overflows, unless payload is sent.
	usefulGrant = 1 << 10
)

// allowance is a token bucket. The zero value is empty.
type allowance struct {
	left, burst, rate float64 // rate is per second
	at                time.Time
}

func newAllowance(burst, rate float64, now time.Time) allowance {
	return allowance{left: burst, burst: burst, rate: rate, at: now}
}

// spend is false when there is not enough left.
func (a *allowance) spend(n float64, now time.Time) bool {
	a.earn(a.rate * max(0, now.Sub(a.at).Seconds()))
	a.at = now
	if a.left < n {
		return false
	}
	a.left -= n
	return true
}

func (a *allowance) earn(n float64) { a.left = min(a.left+n, a.burst) }
