package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"time"
)

// watchEvery is how often a cluster is asked that somebody watches.
const watchEvery = 2 * time.Second

// pause is the time between two looks. Where one takes long, the API server is not asked all
// the time.
func pause(every, took time.Duration) time.Duration {
	return max(every, min(9*took, time.Minute))
}

// screen shows a text again whenever it changes: on a terminal in the place of the last one,
// elsewhere below it.
type screen struct {
	out   io.Writer
	clear bool
	shown string
	since time.Time // since when what is shown may be old; zero: it is not
}

const clearScreen = "\x1b[H\x1b[2J"

// show makes a text again and again until the context ends. If the first cannot be made, this
// is an error. A later one leaves the last one there, with why and since when it may be old.
func (s *screen) show(ctx context.Context, every time.Duration, render func(context.Context) (string, error)) error {
	last := ""
	for first := true; ; first = false {
		began := time.Now()
		text, err := render(ctx)
		long := pause(every, time.Since(began))
		switch {
		case ctx.Err() != nil:
			return nil // Ctrl-C
		case err != nil && first:
			return err
		case err != nil:
			if s.since.IsZero() {
				s.since = time.Now()
			}
			text, long = last+fmt.Sprintf("\n! what is shown may be old, since %s: %s\n", stamp(s.since), plain(err.Error())), every
		default:
			last, s.since = text, time.Time{}
		}
		if err := s.draw(text); err != nil {
			return err
		}
		if err := sleep(ctx, long); err != nil {
			return nil
		}
	}
}

// draw what has changed.
func (s *screen) draw(text string) error {
	if text == s.shown {
		return nil
	}
	before := ""
	switch {
	case s.clear:
		before = clearScreen
	case s.shown != "":
		before = "\n--- " + stamp(time.Now()) + "\n"
	}
	s.shown = text
	_, err := io.WriteString(s.out, before+text)
	return err
}

// watchStatus until the context ends.
func watchStatus(ctx context.Context, out io.Writer, look func(context.Context) (*objects, error), output string) error {
	s := &screen{out: out, clear: onTerminal(out)}
	return s.show(ctx, watchEvery, func(ctx context.Context) (string, error) {
		o, err := look(ctx)
		if err != nil {
			return "", err
		}
		var text bytes.Buffer
		err = printStatusIn(&text, newPaint(out), o, output)
		return text.String(), err
	})
}
