package conditions

import (
	"cmp"
	"slices"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/deliver"
)

// Provider is what the provider of a Balancer said last of its cloud; nil: it never did, or
// there is none.
func Provider(b *v1alpha1.Balancer, states []deliver.State) *v1alpha1.ProviderStatus {
	if b.Spec.Provider == nil {
		return nil
	}
	i := slices.IndexFunc(states, func(s deliver.State) bool { return s.Offers != nil })
	if i < 0 {
		return b.Status.Provider // until it is heard again
	}
	can := states[i].Offers
	out := &v1alpha1.ProviderStatus{Name: can.Name, Version: can.Version, Protocols: texts(can.Protocols), Families: texts(can.Families)}
	if len(can.Flavors) > 0 { // an empty list does not come back from the API server
		out.Flavors = texts(can.Flavors)
	}
	if len(can.Certificates) > 0 {
		out.Certificates = texts(can.Certificates)
	}
	for name, s := range can.Settings {
		out.Settings = append(out.Settings, v1alpha1.ProviderSetting{
			Name: string(name), Missing: s.Missing, UDP: s.UDP, Affinity: s.Affinity, Note: s.Note,
		})
	}
	slices.SortFunc(out.Settings, func(a, b v1alpha1.ProviderSetting) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// texts are some words, sorted, each once.
func texts[W ~string](words []W) []string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = string(w)
	}
	slices.Sort(out)
	return slices.Compact(out)
}
