package provider

import "github.com/external-lb/external-lb/internal/text"

// clip makes a message of a text: words of a cloud, of any length.
func clip(s string) string { return text.Plain(s, MaxMessage) }

// tidy bounds the words of an answer. A reason that is none of the contract says nothing.
func (b LoadBalancer) tidy() LoadBalancer {
	b.Reason, b.Message = b.Reason.known(), clip(b.Message)
	b.RetryAfterSeconds = min(max(b.RetryAfterSeconds, 0), maxRetryAfter)
	refused := make([]Refusal, 0, len(b.Refused))
	for _, r := range b.Refused {
		r.Reason, r.Message = r.Reason.known(), clip(r.Message)
		refused = append(refused, r)
	}
	b.Refused = refused
	return b
}
