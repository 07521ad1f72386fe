package config

import (
	"fmt"
	"strings"
)

// didYouMean names the candidate closest to word, as a hint; "" when none is close.
func didYouMean(word string, candidates []string) string {
	if best := nearest(word, candidates); best != "" {
		return fmt.Sprintf("did you mean %q?", best)
	}
	return ""
}

// nearest gives the candidate with the smallest edit distance to word, the first of equals, as long as
// no more than a third of the word (at least one edit) has to change; else one that begins as word does; else "".
func nearest(word string, candidates []string) string {
	if word == "" || len(word) > 64 {
		return ""
	}
	best, least := "", max(1, len(word)/3)+1
	for _, c := range candidates {
		if c == "" || c == word {
			continue
		}
		if d := distance(strings.ToLower(word), strings.ToLower(c)); d < least {
			best, least = c, d
		}
	}
	for _, c := range candidates {
		if best == "" && len(c) > 2 && len(word) > 2 && (strings.HasPrefix(word, c) || strings.HasPrefix(c, word)) {
			best = c
		}
	}
	return best
}

// distance counts insertions, deletions, substitutions and swaps of neighbours between a and b
// (optimal string alignment).
func distance(a, b string) int {
	x, y := []rune(a), []rune(b)
	rows := make([][]int, len(x)+1)
	for i := range rows {
		rows[i] = make([]int, len(y)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(x); i++ {
		for j := 1; j <= len(y); j++ {
			cost := 1
			if x[i-1] == y[j-1] {
				cost = 0
			}
			d := min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && x[i-1] == y[j-2] && x[i-2] == y[j-1] {
				d = min(d, rows[i-2][j-2]+1)
			}
			rows[i][j] = d
		}
	}
	return rows[len(x)][len(y)]
}
