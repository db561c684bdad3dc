package provider

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/netip"
	"slices"
)

// Digest of what a Spec asks of the cloud: the SHA-256, in hex, of its canonical form.
//
// That is the JSON of RFC 8785, with lists sorted (families by name, members by address,
// sources by address and length, listeners by port and protocol) and every field at its zero
// value left out. Without names and the wanted address, which an answer shows by itself.
func (s Spec) Digest() string {
	sum := sha256.Sum256(canonical(s.sorted()))
	return hex.EncodeToString(sum[:])
}

// sorted is what a digest is of.
func (s Spec) sorted() Spec {
	s.Namespace, s.Name = "", ""
	s.Families, s.Listeners = slices.Clone(s.Families), slices.Clone(s.Listeners)
	for i := range s.Families {
		f := &s.Families[i]
		f.Address = netip.Addr{}
		f.Sources, f.Members = slices.Clone(f.Sources), slices.Clone(f.Members)
		slices.SortFunc(f.Sources, netip.Prefix.Compare)
		slices.SortFunc(f.Members, func(a, b Member) int { return a.Address.Compare(b.Address) })
	}
	slices.SortFunc(s.Families, func(a, b Family) int { return cmp.Compare(a.Family, b.Family) })
	slices.SortFunc(s.Listeners, func(a, b Listener) int {
		return cmp.Or(cmp.Compare(a.Port, b.Port), cmp.Compare(a.Protocol, b.Protocol))
	})
	return s
}

// canonical JSON. What a Spec holds is ASCII and whole numbers, so keys that are sorted, no
// white space and no escapes for HTML are all of it.
func canonical(s Spec) []byte {
	plain, err := json.Marshal(s)
	if err != nil {
		panic(err) // it has only values that can be printed
	}
	var fields map[string]any
	decoder := json.NewDecoder(bytes.NewReader(plain))
	decoder.UseNumber()
	if err := decoder.Decode(&fields); err != nil {
		panic(err)
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(fields); err != nil {
		panic(err)
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n"))
}

// Without the Listeners that were refused.
func (s Spec) Without(refused []Refusal) Spec {
	s.Listeners = slices.DeleteFunc(slices.Clone(s.Listeners), func(l Listener) bool { return l.AmongRefused(refused) })
	return s
}

// AmongRefused reports whether a Listener was refused.
func (l Listener) AmongRefused(refused []Refusal) bool {
	return slices.ContainsFunc(refused, func(r Refusal) bool { return r.Port == l.Port && r.Protocol == l.Protocol })
}

// Proves reports whether an answer shows that a Spec carries traffic: it was read back, but
// for what was refused, and every family has the address that is wanted, or any.
func (b LoadBalancer) Proves(s Spec) bool {
	if b.State != Live || b.Digest != s.Without(b.Refused).Digest() {
		return false
	}
	for _, f := range s.Families {
		if !slices.ContainsFunc(b.Addresses, func(a Address) bool {
			return a.Family == f.Family && (!f.Address.IsValid() || f.Address == a.IP)
		}) {
			return false
		}
	}
	return true
}
