// Package text makes what others have written fit to be shown. It is pure.
package text

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Unprintable is a character that is not shown as one: a terminal may take it for a command.
func Unprintable(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) }

// Plain is a text on one line, of so many bytes at most, of characters that are shown. What
// it returns it leaves as it is.
func Plain(s string, most int) string {
	return cut(strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		if Unprintable(r) {
			return ' '
		}
		return r
	}, s)), " "), most, " ")
}

// Cut ends a text that is longer than so many bytes. There is room for three at least.
func Cut(s string, most int) string { return cut(s, most, "") }

// cut ends it before what is trailing, too.
func cut(s string, most int, trailing string) string {
	const more = "..."
	if len(s) <= most {
		return s
	}
	return strings.TrimRight(strings.ToValidUTF8(s[:most-len(more)], ""), trailing) + more
}
