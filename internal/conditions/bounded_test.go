package conditions

import (
	"strings"
	"testing"
	"unicode/utf8"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Whatever hosts say, what is told of it can be written.
func TestToldIsWhatTheAPIServerTakes(t *testing.T) {
	for _, text := range []string{"", "fine", strings.Repeat("x", maxMessage), strings.Repeat("ä", maxMessage), "x" + strings.Repeat("ä", maxMessage)} {
		got := Bounded(metav1.Condition{Message: text}).Message
		if len(got) > maxMessage || !utf8.ValidString(got) || len(text) <= maxMessage && got != text {
			t.Errorf("%d bytes of %d: %.20q", len(got), len(text), got)
		}
	}
}
