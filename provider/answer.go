package provider

import (
	"fmt"
	"slices"

	"github.com/external-lb/external-lb/internal/text"
)

// clip makes a message of a text: words of a cloud, of any length.
func clip(s string) string { return text.Plain(s, MaxMessage) }

// tidy bounds the words of an answer. A reason that is none of the contract says nothing.
func (b LoadBalancer) tidy() LoadBalancer {
	b.Reason, b.Message = b.Reason.known(), clip(b.Message)
	b.RetryAfterSeconds = min(max(b.RetryAfterSeconds, 0), maxRetryAfter)
	b.Calls.Reads, b.Calls.Writes = min(max(b.Calls.Reads, 0), maxNumber), min(max(b.Calls.Writes, 0), maxNumber)
	refused := make([]Refusal, 0, len(b.Refused))
	for _, r := range b.Refused {
		r.Reason, r.Message = r.Reason.known(), clip(r.Message)
		refused = append(refused, r)
	}
	b.Refused = refused
	return b
}

// check that an answer is within the contract.
func (b LoadBalancer) check() error {
	if what := b.wrong(); what != "" {
		return notTheContract(what)
	}
	return nil
}

// wrong is what of an answer is out of the contract; "": nothing is.
func (b LoadBalancer) wrong() string {
	if !slices.Contains([]State{Pending, Live, Failed, Deleting}, b.State) {
		return fmt.Sprintf("the state %.40q", b.State)
	}
	if b.Digest != "" && !sum.MatchString(b.Digest) || b.State == Live && b.Digest == "" {
		return fmt.Sprintf("%s with the digest %.80q", b.State, b.Digest)
	}
	if len(b.Addresses) > maxAddresses || len(b.Refused) > MaxListeners || !label.MatchString(b.Service) {
		return "more addresses or refusals than a load balancer has, or no Service"
	}
	if !label.MatchString(b.Namespace) || !label.MatchString(b.Name) {
		return "a load balancer without its Service's namespace and name"
	}
	for _, a := range b.Addresses {
		if !a.good() {
			return fmt.Sprintf("the address %v %.80q of %.10q", a.IP, a.Hostname, a.Family)
		}
	}
	seen := map[Listener]bool{}
	for _, r := range b.Refused {
		l := Listener{Port: r.Port, Protocol: r.Protocol}
		if r.Port == 0 || !slices.Contains(protocols, r.Protocol) || seen[l] {
			return fmt.Sprintf("%d/%.10q is refused, which is no listener, or is there twice", r.Port, r.Protocol)
		}
		seen[l] = true
	}
	return ""
}

// good addresses are an IP or a hostname that a load balancer may have.
func (a Address) good() bool {
	switch {
	case a.Family != IPv4 && a.Family != IPv6:
		return false
	case a.Hostname == "":
		return a.Family.Has(a.IP) && !odd(a.IP)
	}
	return !a.IP.IsValid() && len(a.Hostname) <= maxHostname && hostname.MatchString(a.Hostname)
}
