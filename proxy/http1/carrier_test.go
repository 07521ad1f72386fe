package http1

import (
	"testing"
	"testing/synctest"
	"time"
)

// Only a connection without requests makes room: at once when it has had one, else when it takes too long over it.
func TestCarrierSheds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newCarrier()
		if k.shed(uptime()) {
			t.Error("a new one makes room")
		}
		k.begun()
		time.Sleep(2 * carrierFresh)
		if k.shed(uptime()) {
			t.Error("one with a request makes room")
		}
		k.ended()
		if !k.shed(uptime()) {
			t.Error("an idle one does not make room")
		}
		<-k.drain
		if k.shed(uptime()) {
			t.Error("it makes room twice")
		}
		k.end() // a second time is no fault
		k = newCarrier()
		time.Sleep(carrierFresh)
		if !k.shed(uptime()) {
			t.Error("one that has asked nothing for long does not make room")
		}
	})
}
