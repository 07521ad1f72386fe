package proxy

import "strconv"

// maxForwards is where Max-Forwards stands and what it says of how often a request may go on (RFC 9110 §7.6.2): only OPTIONS and TRACE heed
// it. at is -1 where there is none, or no number.
func (x *Exchange) maxForwards() (at int, hops uint64) {
	if m := string(x.head.Method()); m != "OPTIONS" && m != "TRACE" {
		return -1, 0
	}
	at = x.head.Index("Max-Forwards", 0)
	if at < 0 {
		return -1, 0
	}
	hops, err := strconv.ParseUint(string(x.head.Value(at)), 10, 31)
	if err != nil {
		return -1, 0
	}
	return at, hops
}

// endsHere is the route of a request that may go no further; nil of any other.
func (x *Exchange) endsHere() *Route {
	at, hops := x.maxForwards()
	switch {
	case at < 0 || hops > 0:
		return nil
	case string(x.head.Method()) == "TRACE":
		return untraced
	}
	return serverWide
}

// untraced answers TRACE, which sluice itself does not echo: what it would show is not for scripts to see.
var untraced = &Route{respond: &RespondConfig{Status: 405}, response: serverWide.response}

// takeHop leaves Max-Forwards out of the head and gives the line to send in its place, if any.
func (x *Exchange) takeHop() (line []byte) {
	at, hops := x.maxForwards()
	if at < 0 {
		return nil
	}
	x.head.Drop(at)
	return append(strconv.AppendUint([]byte("Max-Forwards: "), hops-1, 10), "\r\n"...)
}
