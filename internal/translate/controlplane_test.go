package translate

import (
	"fmt"
	"reflect"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/test/builder"
)

func controlPlaneNode(name string, addresses ...string) *builder.NodeBuilder {
	return builder.Node(name).IP(addresses...).Label(controlPlaneLabel, "")
}

// apiInput is of a Balancer that carries the API servers, with three of these.
func apiInput(c v1alpha1.ControlPlane) *inputBuilder {
	in := MakeInput().Nodes(
		controlPlaneNode("cp2", "10.0.0.12", "fd00::12").Label(exclude, ""), controlPlaneNode("cp1", "10.0.0.11", "fd00::11"),
		controlPlaneNode("cp3", "10.0.0.13"), builder.Node("n1").IP("10.0.0.1", "fd00::1"))
	in.Balancer.Spec.ControlPlane = &c
	return in
}

// endpoints of default/kubernetes.
func (b *inputBuilder) endpoints(addresses ...string) *inputBuilder {
	return b.Slices("kubernetes", slice("kubernetes", discoveryv1.AddressTypeIPv4).With(func(s *discoveryv1.EndpointSlice) {
		s.Endpoints = []discoveryv1.Endpoint{{Addresses: addresses}}
	}))
}

func TestAPIServers(t *testing.T) {
	at := v1alpha1.ControlPlane{Address: "192.0.2.9"}
	for name, tc := range map[string]struct {
		in   *inputBuilder
		want string
	}{
		"before there are endpoints":       {apiInput(at), "192.0.2.9:6443/TCP to 6443 [cp1 10.0.0.11 cp2 10.0.0.12 cp3 10.0.0.13]"},
		"those that are endpoints":         {apiInput(at).endpoints("10.0.0.11", "10.0.0.13"), "192.0.2.9:6443/TCP to 6443 [cp1 10.0.0.11 cp3 10.0.0.13]"},
		"endpoints add nobody":             {apiInput(at).endpoints("10.0.0.1", "10.0.0.99", "10.0.0.12", "169.254.169.254", "cp1"), "192.0.2.9:6443/TCP to 6443 [cp2 10.0.0.12]"},
		"none of the endpoints is a node":  {apiInput(at).endpoints("10.0.0.1", "10.0.0.99"), "192.0.2.9:6443/TCP to 6443 [cp1 10.0.0.11 cp2 10.0.0.12 cp3 10.0.0.13]"},
		"the other family, other ports":    {apiInput(v1alpha1.ControlPlane{Address: "2001:db8::9", Port: 443, ServerPort: 8443}), "[2001:db8::9]:443/TCP to 8443 [cp1 fd00::11 cp2 fd00::12]"},
		"no other address than InternalIP": {apiInput(at).Nodes(builder.Node("cp1").Address(corev1.NodeExternalIP, "198.51.100.1").Label(controlPlaneLabel, "")), "192.0.2.9:6443/TCP to 6443 []; NoAPIServers"},
		"a node that is going":             {apiInput(at).Nodes(controlPlaneNode("cp1", "10.0.0.11").Deleting(), controlPlaneNode("cp2", "10.0.0.12")), "192.0.2.9:6443/TCP to 6443 [cp2 10.0.0.12]"},
		"a hostile name":                   {apiInput(at).Nodes(controlPlaneNode("cp1; }", "10.0.0.11")), "192.0.2.9:6443/TCP to 6443 []; NoAPIServers"},
		"no address, in a file":            {apiInput(v1alpha1.ControlPlane{Address: "api.example.com"}), "; Invalid"},
		"no port, in a file":               {apiInput(v1alpha1.ControlPlane{Address: "192.0.2.9", Port: 70000}), "; Invalid"},
		"nobody asks":                      {MakeInput(), ""},
	} {
		out := New().Translate(tc.in.Input)
		got := ""
		for _, s := range out.Config.Services {
			var servers []string
			for _, n := range s.Servers {
				if n.IPv4.IsValid() {
					servers = append(servers, n.Name, n.IPv4.String())
				} else {
					servers = append(servers, n.Name, n.IPv6.String())
				}
			}
			f := s.Frontends[0]
			got += fmt.Sprintf("%s to %d %v", f.Listener, f.NodePort, servers)
		}
		if out.ControlPlane != nil {
			got += "; " + out.ControlPlane.Reason
		}
		if got != tc.want {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
	}
}

// Whoever may change how Services are carried does not change how the API is reached.
func TestNoSettingChangesHowTheAPIServersAreCarried(t *testing.T) {
	plain := New().Translate(apiInput(v1alpha1.ControlPlane{Address: "192.0.2.9"}).Input).Config.Services
	in := apiInput(v1alpha1.ControlPlane{Address: "192.0.2.9"})
	one := int32(1)
	in.Balancer.Spec.Defaults = v1alpha1.UpstreamSettings{MaxConnections: &one, Algorithm: "Random"}
	in.Balancer.Spec.Nodes = v1alpha1.NodeSelection{MaxPerService: 1, Selector: v1alpha1.LabelSelector{MatchLabels: map[string]v1alpha1.LabelValue{"edge": "yes"}}}
	in.Input.Policies = []*v1alpha1.UpstreamPolicy{policy("all").For("kubernetes").Retries(0).Obj()}
	got := New().Translate(in.Input).Config.Services
	if len(got) != 1 || got[0].ID != lb.ControlPlane || !reflect.DeepEqual(got[0].Frontends, plain[0].Frontends) || len(got[0].Servers) != 3 {
		t.Errorf("%+v", got)
	}
}
