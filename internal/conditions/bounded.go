package conditions

import (
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// maxMessage is how many bytes a condition's message has at most: the API server takes
// four times as many, and nobody reads so many. Hosts have a part in it.
const maxMessage = 8 << 10

// Bounded is a condition as it can be written.
func Bounded(c metav1.Condition) metav1.Condition {
	c.Message = Cut(c.Message, maxMessage)
	return c
}

// Cut ends a text that is longer than so many bytes.
func Cut(text string, most int) string {
	const more = "..."
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most-len(more)], "") + more
}
