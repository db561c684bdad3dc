package translate

import (
	"testing"
	"time"

	"github.com/external-lb/external-lb/internal/lb"
)

// FuzzSettings: the values of a policy's fields that are read, and not only compared.
func FuzzSettings(f *testing.F) {
	for _, seed := range []string{"10s", "1ms", "25h", "-1s", "1e3s", "080", "8080 /healthz", "0 /a b", " /x;}", "2147483648", "2.5"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var span, pause time.Duration
		var check lb.HealthCheck
		var number int32
		if err := duration(&span, text); err == nil && (span < time.Millisecond || span > lb.MaxDuration) {
			t.Errorf("the duration %q is read as %s", text, span)
		}
		if err := interval(&pause, text); err == nil && (pause < lb.MinInterval || pause > lb.MaxDuration) {
			t.Errorf("the interval %q is read as %s", text, pause)
		}
		if err := count(&number, text, 1, maxRetries); err == nil && (number < 1 || number > maxRetries) {
			t.Errorf("the number %q is read as %d", text, number)
		}
		if err := httpCheck(&check, text); err == nil && !lb.SafePath(check.Path) {
			t.Errorf("the check %q is read as %+v", text, check)
		}
	})
}
