package main

import (
	"strings"
	"testing"
)

func TestLedgerJoin(t *testing.T) {
	l := &ledger{run: "r"}
	var book strings.Builder
	request := func(post bool, f fate, deliveries int) {
		n, id := l.open(post)
		l.close(n, f)
		for range deliveries {
			book.WriteString(id + " METHOD server\n")
		}
	}
	request(true, succeeded, 1)
	request(true, succeeded, 2)     // duplicated
	request(false, succeeded, 2)    // repeated, allowed
	request(false, succeeded, 0)    // undelivered
	request(true, refusedEarly, 0)  //
	request(true, refusedEarly, 1)  // refused, but delivered
	request(false, refusedEarly, 1) // a GET may have been tried before
	request(true, refusedLate, 1)   //
	request(true, lost, 1)
	request(true, crossed, 1)
	request(true, cutByFault, 1)
	l.open(true)                                 // never finished: lost
	book.WriteString("other-0 POST server\nr-4") // of another run; cut short by a kill
	got, err := l.join(strings.NewReader(book.String()))
	if err != nil {
		t.Fatal(err)
	}
	want := balance{Sent: 12, Cut: 1, Succeeded: 4, Refused: 4, Lost: 2, Duplicated: 1, Crossed: 1, RefusedDelivered: 1, RefusedIdempotent: 1, Undelivered: 1, Repeated: 1}
	if got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if _, err := l.join(strings.NewReader("r-99 GET server\n")); err == nil {
		t.Error("a request that was never sent was delivered, and nobody noticed")
	}
}

func TestBalanceIsCleanOnlyWhenEveryPromiseIsKept(t *testing.T) {
	good := balance{Sent: 6, Cut: 1, Succeeded: 3, Refused: 2, Repeated: 1}
	if !good.clean() {
		t.Errorf("%+v is not clean", good)
	}
	for name, spoil := range map[string]func(*balance){
		"nothing sent": func(b *balance) { *b = balance{} }, "lost": func(b *balance) { b.Lost, b.Succeeded = 1, 2 },
		"duplicated": func(b *balance) { b.Duplicated++ }, "crossed": func(b *balance) { b.Crossed++ },
		"refused but delivered": func(b *balance) { b.RefusedDelivered++ }, "undelivered": func(b *balance) { b.Undelivered++ },
		"does not add up": func(b *balance) { b.Sent++ },
	} {
		b := good
		spoil(&b)
		if b.clean() {
			t.Errorf("%s: %+v is clean", name, b)
		}
	}
}
