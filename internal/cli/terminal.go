package cli

import (
	"io"
	"os"

	"github.com/external-lb/external-lb/internal/text"
)

// onTerminal reports whether a person reads what is written.
func onTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// plain is a text on one line, without what a terminal takes for commands: annotations and
// hosts' words are others' writing.
func plain(s string) string {
	return text.Plain(s, mostWords)
}

// mostWords are more than an API server takes for a condition or an event.
const mostWords = 32 << 10

// paint colours words, or leaves them as they are.
type paint bool

// newPaint colours on a terminal, unless NO_COLOR says otherwise.
func newPaint(w io.Writer) paint {
	return paint(onTerminal(w) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb")
}

func (p paint) with(code, s string) string {
	if !p || s == "" {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

func (p paint) bold(s string) string   { return p.with("1", s) }
func (p paint) good(s string) string   { return p.with("32", s) }
func (p paint) middle(s string) string { return p.with("33", s) }
func (p paint) bad(s string) string    { return p.with("31", s) }
