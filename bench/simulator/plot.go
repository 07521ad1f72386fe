package simulator

import (
	"bytes"
	"fmt"
	"html"
	"time"
)

// line is one curve of a panel, a value a second.
type line struct {
	name, colour string
	values       []float64
}

// colours are those of policies, in order.
var colours = []string{"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8a6d00"}

const (
	plotWidth, plotHeight = 1100, 220 // of a panel
	plotLeft, plotTop     = 60, 30
	plotPoints            = 1100
)

// Plot is an SVG of three panels over time: the demand (requests in service if nobody ever waited), the queue under
// each policy, and the replicas under each policy. Every point is the largest value of its stretch of time.
func Plot(t Trace, rows []*Result, slots int) []byte {
	demand := line{"demand, requests in service", "#555555", offered(t)}
	needed := line{"demand / slots", "#bbbbbb", make([]float64, len(demand.values))}
	for i, v := range demand.values {
		needed.values[i] = v / float64(slots)
	}
	var queues []line
	replicas := []line{needed}
	for i, r := range rows {
		colour := colours[i%len(colours)]
		q, n := line{r.Policy, colour, nil}, line{r.Policy, colour, nil}
		for _, s := range r.Series {
			q.values, n.values = append(q.values, s.Queue), append(n.values, float64(s.Replicas))
		}
		queues, replicas = append(queues, q), append(replicas, n)
	}
	var b bytes.Buffer
	panels := []struct {
		title string
		lines []line
	}{{"demand", []line{demand}}, {"queue", queues}, {"replicas", replicas}}
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">`+"\n",
		plotLeft+plotWidth+20, len(panels)*(plotHeight+2*plotTop)+20)
	fmt.Fprintln(&b, `<rect width="100%" height="100%" fill="white"/>`)
	for i, p := range panels {
		panel(&b, p.title, p.lines, plotTop+i*(plotHeight+2*plotTop), t.Length)
	}
	fmt.Fprintln(&b, "</svg>")
	return b.Bytes()
}

// offered is the load of the trace a second, as if there were always a free slot.
func offered(t Trace) []float64 {
	seconds := int(t.Length/second) + 1
	load := make([]float64, seconds)
	for _, r := range t.Requests {
		for at, end := r.At, min(r.At+r.Service, t.Length); at < end; {
			next := min((at/second+1)*second, end)
			load[at/second] += (next - at).Seconds()
			at = next
		}
	}
	return load
}

func panel(b *bytes.Buffer, title string, lines []line, top int, length time.Duration) {
	most, seconds := 1.0, 1
	for _, l := range lines {
		seconds = max(seconds, len(l.values))
		for _, v := range l.values {
			most = max(most, v)
		}
	}
	fmt.Fprintf(b, `<text x="%d" y="%d" font-weight="bold">%s</text>`+"\n", plotLeft, top-10, title)
	for i, l := range lines {
		if l.name != title {
			fmt.Fprintf(b, `<text x="%d" y="%d" fill="%s">%s</text>`+"\n", plotLeft+90+i*130, top-10, l.colour, html.EscapeString(l.name))
		}
	}
	for i := range 5 {
		y := float64(top) + plotHeight*float64(i)/4
		fmt.Fprintf(b, `<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" stroke="#e0e0e0"/><text x="%d" y="%.1f" text-anchor="end">%.4g</text>`+"\n",
			plotLeft, y, plotLeft+plotWidth, y, plotLeft-6, y+4, most*float64(4-i)/4)
		x := plotLeft + plotWidth*i/4
		fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="middle">%s</text>`+"\n", x, top+plotHeight+16, (length * time.Duration(i) / 4).Round(time.Second))
	}
	for _, l := range lines {
		fmt.Fprintf(b, `<polyline fill="none" stroke="%s" stroke-width="1.2" points="`, l.colour)
		step := max(1, seconds/plotPoints)
		for i := 0; i < len(l.values); i += step {
			v := 0.0
			for _, x := range l.values[i:min(i+step, len(l.values))] {
				v = max(v, x)
			}
			fmt.Fprintf(b, "%.1f,%.1f ", plotLeft+plotWidth*float64(i)/float64(seconds), float64(top)+plotHeight*(1-v/most))
		}
		fmt.Fprintln(b, `"/>`)
	}
}
