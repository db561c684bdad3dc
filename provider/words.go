package provider

import "github.com/external-lb/external-lb/internal/text"

// clip makes a message of a text: words of a cloud, of any length.
func clip(s string) string { return text.Plain(s, MaxMessage) }

// tidy bounds the words of an answer.
func (b LoadBalancer) tidy() LoadBalancer {
	b.Message = clip(b.Message)
	refused := make([]Refusal, 0, len(b.Refused))
	for _, r := range b.Refused {
		r.Message = clip(r.Message)
		refused = append(refused, r)
	}
	b.Refused = refused
	return b
}
