package conditions

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/external-lb/external-lb/internal/text"
)

// maxMessage is how many bytes a condition's message has at most: the API server takes
// four times as many, and nobody reads so many. Hosts have a part in it.
const maxMessage = 8 << 10

// Bounded is a condition as it can be written.
func Bounded(c metav1.Condition) metav1.Condition {
	c.Message = text.Cut(c.Message, maxMessage)
	return c
}
