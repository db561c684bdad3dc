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
func TestProvider_SaysWhatIsOffered(t *testing.T) {
	b := builder.Balancer("edge").With(func(b *v1alpha1.Balancer) { b.Spec.Provider = &v1alpha1.Provider{} }).Obj()
	can := &provider.Capabilities{Flavors: []string{"small", "big"}, Certificates: []string{"shop", "admin"}}
	states := []deliver.State{{Offers: can}}
	if got := Provider(b, states); !slices.Equal(got.Flavors, []string{"big", "small"}) || !slices.Equal(got.Certificates, []string{"admin", "shop"}) {
		t.Errorf("%q %q", got.Flavors, got.Certificates)
	}
	can.Flavors, can.Certificates = []string{}, []string{}
	if got := Provider(b, states); got.Flavors != nil || got.Certificates != nil {
		t.Errorf("%#v", got)
	}
}
