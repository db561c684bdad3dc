package controllers

import (
	"time"

	"github.com/external-lb/external-lb/internal/text"
)

// tellAgain is after how long the same trouble is told again: the API server drops events after an hour.
const tellAgain = 30 * time.Minute

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
	if t.words == words && time.Since(t.at) < tellAgain || t.words != words && failure < 2*t.failure {
		return false
	}
	*t = telling{failure, words, time.Now()}
	return true
}
