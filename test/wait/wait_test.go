package wait

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

func TestUntil(t *testing.T) {
	no := errors.New("no")
	for name, c := range map[string]struct {
		yes   int           // the check that has no error; 0: none
		limit time.Duration // of the context; 0: none
		took  time.Duration // at most, and no less than a pause before
	}{
		"at once":             {yes: 1},
		"later":               {yes: 100, took: 100 * lastPause},
		"never":               {took: Patience},
		"the context is over": {limit: time.Second, took: time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if c.limit > 0 {
					ctx, cancel = context.WithTimeout(ctx, c.limit)
					defer cancel()
				}
				began, checks := time.Now(), 0
				err := Until(ctx, func(context.Context) error {
					if checks++; checks == c.yes {
						return nil
					}
					return no
				})
				if c.yes > 0 && (err != nil || checks != c.yes) || c.yes == 0 && !errors.Is(err, no) {
					t.Errorf("%v after %d checks", err, checks)
				}
				if took := time.Since(began); took > c.took || c.yes != 1 && took < c.took-10*lastPause {
					t.Errorf("took %v, want %v", took, c.took)
				}
			})
		})
	}
}

// Who measures is told soon, however long it has waited.
func TestPrecisely(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		const after = 10*time.Second + 1
		err := Precisely(t.Context(), "it is late", func() (bool, error) { return time.Since(began) >= after, nil })
		if late := time.Since(began) - after; err != nil || late > precisePause {
			t.Errorf("%v, %s late", err, late)
		}
	})
}

// What cannot become true is not waited for.
func TestUntil_GivesUp(t *testing.T) {
	ended, checks := errors.New("it has ended"), 0
	err := Until(t.Context(), func(context.Context) error {
		if checks++; checks == 3 {
			return fmt.Errorf("no answer: %w", GiveUp(ended))
		}
		return errors.New("no answer")
	})
	if !errors.Is(err, ended) || checks != 3 {
		t.Errorf("%v after %d checks", err, checks)
	}
}

// A check that is cut off says less than the one before.
func TestUntil_KeepsTheErrorThatSaysMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		said := errors.New("there are 2, want 3")
		first := true
		err := Until(t.Context(), func(ctx context.Context) error {
			if first {
				first = false
				return said
			}
			<-ctx.Done()
			return ctx.Err()
		})
		if !errors.Is(err, said) {
			t.Error(err)
		}
	})
}
