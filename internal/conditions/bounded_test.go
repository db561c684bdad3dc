package conditions

import (
	"strings"
	"testing"
	"unicode/utf8"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Whatever hosts say, what is told of it can be written.
func TestToldIsWhatTheAPIServerTakes(t *testing.T) {
	long := strings.Repeat("ä", maxMessage)
	for _, text := range []string{"", "fine", strings.Repeat("x", maxMessage), long, "x" + long} {
		got := Bounded(metav1.Condition{Message: text}).Message
		if len(got) > maxMessage || !utf8.ValidString(got) || len(text) <= maxMessage && got != text {
			t.Errorf("%d bytes of %d: %.20q", len(got), len(text), got)
		}
	}
}
