package record

import (
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/lb"
)

// Keys of a record's text. Before them is the UID of its Service: a status that was
// copied to another one says nothing about that.
const (
	uid       = "uid="
	holders   = "holders="
	carrier   = "carrier="
	addresses = "addresses="
	published = "published="
	listeners = "listeners="
)

// maxAddresses that are read of a list: a user can write one, too. What is on record is
// far below.
const maxAddresses = 64

// text of a Service's record, without the UID.
func text(svc *corev1.Service) (string, bool) {
	for i := range svc.Status.Conditions {
		c := &svc.Status.Conditions[i]
		if c.Type != v1alpha1.ConditionRecord {
			continue
		}
		rest, named := strings.CutPrefix(c.Message, uid)
		of, rest, _ := strings.Cut(rest, " ")
		return rest, named && of == string(svc.UID) && c.Status == metav1.ConditionTrue
	}
	return "", false
}

// value that a Service's record has under a key, "" if there is none.
func value(svc *corev1.Service, key string) string {
	said, held := text(svc)
	if !held {
		return ""
	}
	for word := range strings.SplitSeq(said, " ") {
		if v, found := strings.CutPrefix(word, key); found {
			return v
		}
	}
	return ""
}

// list that a Service's record has under a key, each once.
func list(svc *corev1.Service, key string) (out []string) {
	for s := range strings.SplitSeq(value(svc, key), ",") {
		if s != "" && !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// condition that says a record, not dated. It is never False: nothing is wrong with a
// Service that is on record.
func (r Record) condition(svc *corev1.Service) metav1.Condition {
	words := []string{uid + string(svc.UID), holders + strings.Join(r.Holders, ","), addresses + FormatAddresses(r.Addresses)}
	if len(r.Holders) > 0 && r.Carrier != r.Holders[0] {
		words = append(words, carrier+r.Carrier)
	}
	if len(r.Published) > 0 {
		words = append(words, published+FormatAddresses(r.Published))
	}
	if own := formatListeners(r.Listeners, r.Addresses); own != "" {
		words = append(words, listeners+own)
	}
	return metav1.Condition{
		Type: v1alpha1.ConditionRecord, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonHeld, Message: strings.Join(words, " "),
	}
}

// parseAddresses reads a comma separated list and leaves out what is no address.
func parseAddresses(list string) []netip.Addr {
	var out []netip.Addr
	for s := range strings.SplitSeq(list, ",") {
		if a, err := netip.ParseAddr(strings.TrimSpace(s)); err == nil && a.Zone() == "" {
			out = append(out, a.Unmap())
		}
		if len(out) == maxAddresses {
			break
		}
	}
	return out
}

// Describe puts addresses on record into words: of one that a cloud gives, only the cloud
// knows the number.
func Describe(addresses []netip.Addr) string {
	s := make([]string, len(addresses))
	for i, a := range addresses {
		switch {
		case !lb.Given(a):
			s[i] = a.String()
		case a.Is4():
			s[i] = "an IPv4 address of the cloud"
		default:
			s[i] = "an IPv6 address of the cloud"
		}
	}
	return strings.Join(s, ",")
}

// FormatAddresses is the inverse of parseAddresses.
func FormatAddresses(addresses []netip.Addr) string {
	s := make([]string, len(addresses))
	for i, a := range addresses {
		s[i] = a.String()
	}
	return strings.Join(s, ",")
}
