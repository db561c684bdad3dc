package translate

import "strconv"

// longest is how much of what a user wrote is told back: what he recognises, and
// not what fills a status or an event.
const longest = 80

// quoted prints what a user wrote, in full or its beginning, without line breaks
// or other control characters.
func quoted(s string) string { return strconv.Quote(clip(s)) }

func clip(s string) string {
	count := 0
	for i := range s {
		if count == longest {
			return s[:i] + "…"
		}
		count++
	}
	return s
}
