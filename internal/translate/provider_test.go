package translate

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

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
	before := commonKey(b)
	b.Status.Provider = &v1alpha1.ProviderStatus{Name: "test", Protocols: []string{"TCP"}, Settings: []v1alpha1.ProviderSetting{
		{Name: "retries"}, {Name: "mode=HTTP", Missing: "no"}, {Name: "algorithm=Random", Affinity: "it decides"},
	}}
	e := Carriers(b).Main
	if Unknown(b) || !e.Carries(lb.TCP) || e.Carries(lb.UDP) || e.Unsupported("retries", lb.TCP) != "" || e.Unsupported("mode=HTTP", lb.TCP) != "no" || e.Unsupported("mode=TCP", lb.TCP) == "" ||
		e.Overruled("algorithm=Random") != "it decides" || !e.KeepsConnections || e.String() != "the provider test" {
		t.Errorf("%s: %+v", e, e.Capabilities)
	}
	if commonKey(b) == before {
		t.Error("Services are not translated anew when the cloud can do something else")
	}
}

// cloudInput is of a Balancer with a provider.
func cloudInput(svc *builder.ServiceBuilder) *inputBuilder {
	return MakeInput(on(svc, "192.0.2.1")).Spec(func(s *v1alpha1.BalancerSpec) {
		s.Engine, s.Provider = v1alpha1.EngineProvider, &v1alpha1.Provider{}
	})
}

func TestFlavor_IsForCloudsAlone(t *testing.T) {
	big := service("web").Port(80).Annotate(v1alpha1.FlavorAnnotation, " big ")
	got := cloudInput(big).Only(t)
	if got.wantProblems(t); got.Flavor != "big" {
		t.Errorf("a cloud is asked for %q", got.Flavor)
	}
	got = MakeInput(on(big, "192.0.2.1")).Only(t)
	got.want(t, "192.0.2.1:80/TCP -> 30080 on all")
	got.wantProblems(t, v1alpha1.ReasonInvalidAnnotation)
	if m := got.Problems[0].Message; got.Flavor != "" || !strings.Contains(m, "changes nothing") || !strings.Contains(m, v1alpha1.FlavorAnnotation) {
		t.Errorf("hosts are sent %q, and it is told %q", got.Flavor, m)
	}
	if got := cloudInput(service("web").Port(80)).Only(t); got.Flavor != "" {
		t.Errorf("nobody asked for %q", got.Flavor)
	}
}

// One that cannot be read is told, brings no load balancer, and takes no address away that is shown.
func TestFlavor_ThatCannotBeReadIsTold(t *testing.T) {
	for _, text := range []string{"Big", "very big", "big;", "-", strings.Repeat("a", 64)} {
		svc := service("web").Port(80).Annotate(v1alpha1.FlavorAnnotation, text)
		got := cloudInput(svc).Only(t)
		got.want(t)
		got.wantProblems(t, "!"+v1alpha1.ReasonInvalidAnnotation)
		if m := got.Problems[0].Message; !strings.Contains(m, v1alpha1.FlavorAnnotation+": "+quoted(text)) {
			t.Errorf("%q is told %q", text, m)
		}
		shown := []*builder.ServiceBuilder{
			service("web").Port(80).Annotate(v1alpha1.FlavorAnnotation, text).Annotate(v1alpha1.AssignedAddressesAnnotation, "192.0.2.1"),
			service("web").Port(80).Annotate(v1alpha1.FlavorAnnotation, text).With(func(s *corev1.Service) {
				s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{Hostname: "web.example.net"}}
			}),
		}
		for _, svc := range shown {
			got := cloudInput(svc).Only(t)
			got.want(t, "192.0.2.1:80/TCP -> 30080 on all")
			if got.wantProblems(t, v1alpha1.ReasonInvalidAnnotation); got.Flavor != "" {
				t.Errorf("%q is sent", got.Flavor)
			}
		}
	}
}

// certificatesOf a Service's ports, as a text.
func certificatesOf(r translated) string {
	var out []string
	for _, f := range r.Frontends {
		out = append(out, f.Listener.String()+" "+f.Settings.CloudCertificate)
	}
	return strings.Join(out, ", ")
}

// A certificate is for each TCP port, or for those that are named.
func TestCertificate_IsOfPorts(t *testing.T) {
	web := func() *builder.ServiceBuilder {
		return service("web").Port(80).Port(443).PortOf(corev1.ProtocolUDP, 443, 30444)
	}
	for text, want := range map[string]string{
		" shop ":               "192.0.2.1:80/TCP shop, 192.0.2.1:443/TCP shop, 192.0.2.1:443/UDP ",
		"443=shop":             "192.0.2.1:80/TCP , 192.0.2.1:443/TCP shop, 192.0.2.1:443/UDP ",
		"443=shop, 80=old-one": "192.0.2.1:80/TCP old-one, 192.0.2.1:443/TCP shop, 192.0.2.1:443/UDP ",
	} {
		got := cloudInput(web().Annotate(v1alpha1.CertificateAnnotation, text)).Only(t)
		if got.wantProblems(t); certificatesOf(got) != want {
			t.Errorf("%q: %s", text, certificatesOf(got))
		}
	}
	for _, text := range []string{"Shop", "443=", "=shop", "443=Shop", "443=1234_cn", "https=shop", "0=shop", "65536=shop", "443=shop,443=other", "8443=shop", "443=shop,", "443=shop;80=x"} {
		for _, shown := range []string{"", "192.0.2.1"} { // never is it open without TLS
			got := cloudInput(web().Annotate(v1alpha1.CertificateAnnotation, text).Annotate(v1alpha1.AssignedAddressesAnnotation, shown)).Only(t)
			got.want(t)
			got.wantProblems(t, "!"+v1alpha1.ReasonInvalidAnnotation)
			if m := got.Problems[0].Message; !strings.Contains(m, v1alpha1.CertificateAnnotation) {
				t.Errorf("%q is told %q", text, m)
			}
		}
	}
}

// Hosts have no certificates by name: such a port is not carried, and the others are.
func TestCertificate_IsForCloudsAlone(t *testing.T) {
	got := MakeInput(on(service("web").Port(80).Port(443).Annotate(v1alpha1.CertificateAnnotation, "443=shop"), "192.0.2.1")).Only(t)
	got.want(t, "192.0.2.1:80/TCP -> 30080 on all")
	got.wantProblems(t, v1alpha1.ReasonTLSNotSupported)
	if m := got.Problems[0].Message; !strings.Contains(m, "443") || !strings.Contains(m, v1alpha1.CertificateAnnotation) || !strings.Contains(m, "UpstreamPolicy") {
		t.Errorf("it is told %q", m)
	}
	if got.PortErrors[PortKey{Protocol: corev1.ProtocolTCP, Port: 443}] != v1alpha1.PortErrorTLS {
		t.Errorf("%v", got.PortErrors)
	}
}
