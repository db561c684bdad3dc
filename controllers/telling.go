package controllers

import (
	"time"

	"github.com/external-lb/external-lb/internal/text"
)

// tellAgain is after how long the same trouble is told again: the API server drops events after an hour.
const tellAgain = 30 * time.Minute

// stale reports whether what was told at a time is to be told again.
func stale(told time.Time) bool { return time.Since(told) >= tellAgain }

// telling is what was told last of something that fails again and again.
type telling struct {
	failure int // in a row; 0: nothing was told
	words   string
	at      time.Time
}

// news reports whether to tell why something has failed once more. Another reason than before is told, but ever
// less often: whoever refuses chooses the words.
func (t *telling) news(failure int, words string) bool {
	words = text.Cut(words, maxAPIWords)
	if t.words == words && !stale(t.at) || t.words != words && failure < 2*t.failure {
		return false
	}
	*t = telling{failure, words, time.Now()}
	return true
}
