package main

import (
	"encoding/xml"
	"fmt"
	"io"
	"slices"
	"strings"
)

// colours of the peers, in the order in which they appear; readable beside each other with any kind of sight.
var colours = []string{"#888888", "#0072b2", "#e69f00", "#009e73", "#cc79a7"}

const (
	barHeight, groupGap = 14, 12   // px
	labelWidth          = 290      // px
	plotWidth, plotMax  = 480, 2.5 // px, and the ratio at its end
)

// drawRows writes bars of the ratios to the base, with lines from the least to the most of the rounds. A bar that is longer
// than the picture ends there, with its number.
func drawRows(w io.Writer, rows []peerRow, subtitle string) error {
	var b strings.Builder
	var names []string
	y := 64
	x := func(ratio float64) float64 { return labelWidth + min(ratio, plotMax)/plotMax*plotWidth }
	text := func(x float64, y int, anchor, s string) {
		fmt.Fprintf(&b, `<text x="%.1f" y="%d" text-anchor="%s">`, x, y, anchor)
		_ = xml.EscapeText(&b, []byte(s)) // a Builder takes everything
		b.WriteString("</text>\n")
	}
	last := ""
	for _, r := range rows {
		if r.Ratio == 0 {
			continue
		}
		if r.Workload != last {
			y += groupGap
			text(labelWidth-8, y+barHeight-3, "end", r.title)
			last = r.Workload
		}
		i := slices.Index(names, r.Peer)
		if i < 0 {
			i = len(names)
			names = append(names, r.Peer)
		}
		fmt.Fprintf(&b, `<rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/>`+"\n", labelWidth, y, x(r.Ratio)-labelWidth, barHeight-2, colours[i%len(colours)])
		middle := float64(y) + barHeight/2 - 1
		fmt.Fprintf(&b, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="black"/>`+"\n", x(r.RatioMin), middle, x(r.RatioMax), middle)
		text(x(max(r.Ratio, r.RatioMax))+5, y+barHeight-4, "start", fmt.Sprintf("%.2f", r.Ratio))
		y += barHeight
	}
	for i, n := range names {
		at := labelWidth + i*90
		fmt.Fprintf(&b, `<rect x="%d" y="44" width="10" height="10" fill="%s"/>`+"\n", at, colours[i%len(colours)])
		text(float64(at+14), 53, "start", n)
	}
	fmt.Fprintf(&b, `<line x1="%.1f" y1="64" x2="%.1f" y2="%d" stroke="black" stroke-dasharray="3 3"/>`+"\n", x(1), x(1), y)
	_, err := fmt.Fprintf(w, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">
<rect width="100%%" height="100%%" fill="white"/>
<text x="12" y="20" font-size="15">Cost in the same rounds: processor time per request, memory per idle connection; less is better</text>
<text x="12" y="36">%s</text>
%s</svg>
`, labelWidth+plotWidth+60, y+12, subtitle, b.String())
	return err
}
