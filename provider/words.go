package provider

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// printable is a text in one line, without what a terminal obeys.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
}

// clip makes a message of a text: words of a cloud, of any length.
func clip(s string) string {
	s = printable(s)
	if len(s) <= MaxMessage {
		return s
	}
	const dots = "..."
	return strings.ToValidUTF8(s[:MaxMessage-len(dots)], "") + dots
}

// tidy bounds the words of an answer.
func (b LoadBalancer) tidy() LoadBalancer {
	b.Message = clip(b.Message)
	refused := make([]Refusal, 0, len(b.Refused))
	for _, r := range b.Refused {
		r.Message = clip(r.Message)
		refused = append(refused, r)
	}
	b.Refused = refused
	return b
}
