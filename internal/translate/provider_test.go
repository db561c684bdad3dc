package translate

import (
	"testing"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/test/builder"
)

// What a provider's cloud can do is in the Balancer's status: what is not there it cannot.
func TestCarriers_AProvider(t *testing.T) {
	b := builder.Balancer("edge").With(func(b *v1alpha1.Balancer) {
		b.Spec.Engine, b.Spec.Provider = v1alpha1.EngineProvider, &v1alpha1.Provider{}
	}).Obj()
	if e := Carriers(b).Main; !Unknown(b) || !e.Carries(lb.SCTP) || e.Stated() != nil || e.Unsupported("retries", lb.UDP) != "" {
		t.Errorf("what nobody has said yet is called unsupported: %+v", e.Capabilities)
	}
	before := commonKey(b, 1)
	b.Status.Provider = &v1alpha1.ProviderStatus{Name: "test", Protocols: []string{"TCP"}, Settings: []v1alpha1.ProviderSetting{
		{Name: "retries"}, {Name: "mode=HTTP", Missing: "no"}, {Name: "algorithm=Random", Affinity: "it decides"},
	}}
	e := Carriers(b).Main
	if Unknown(b) || !e.Carries(lb.TCP) || e.Carries(lb.UDP) || e.Unsupported("retries", lb.TCP) != "" || e.Unsupported("mode=HTTP", lb.TCP) != "no" || e.Unsupported("mode=TCP", lb.TCP) == "" ||
		e.Overruled("algorithm=Random") != "it decides" || !e.KeepsConnections || e.String() != "the provider test" {
		t.Errorf("%s: %+v", e, e.Capabilities)
	}
	if commonKey(b, 1) == before {
		t.Error("Services are not translated anew when the cloud can do something else")
	}
}
