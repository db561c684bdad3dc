package conditions

import (
	"slices"
	"testing"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/deliver"
	"github.com/external-lb/external-lb/provider"
	"github.com/external-lb/external-lb/test/builder"
)

// What a provider offers is in the Balancer's status, and nothing where it offers none: else
// the status would be written again and again.
func TestProvider_SaysWhichFlavorsThereAre(t *testing.T) {
	b := builder.Balancer("edge").With(func(b *v1alpha1.Balancer) { b.Spec.Provider = &v1alpha1.Provider{} }).Obj()
	can := &provider.Capabilities{Flavors: []string{"small", "big"}}
	states := []deliver.State{{Offers: can}}
	if got := Provider(b, states).Flavors; !slices.Equal(got, []string{"big", "small"}) {
		t.Errorf("%q", got)
	}
	can.Flavors = []string{}
	if got := Provider(b, states).Flavors; got != nil {
		t.Errorf("%#v", got)
	}
}
