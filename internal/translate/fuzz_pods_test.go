package translate

import (
	"encoding/json"
	"net/netip"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/external-lb/external-lb/internal/lb"
)

// FuzzReadEndpoints: whatever whoever may write EndpointSlices says, hosts are sent to pods of the namespace
// alone, each once, and the order of slices does not matter.
func FuzzReadEndpoints(f *testing.F) {
	pods := map[string]*Pod{
		"a": {Addresses: []netip.Addr{netip.MustParseAddr("10.244.0.1"), netip.MustParseAddr("fd44::1")}},
		"b": {Addresses: []netip.Addr{netip.MustParseAddr("10.244.0.2")}},
		"h": {Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.1")}, HostNetwork: true},
		"o": {Addresses: []netip.Addr{netip.MustParseAddr("10.244.0.3")}, Finished: true},
	}
	may := []netip.Addr{pods["a"].Addresses[0], pods["a"].Addresses[1], pods["b"].Addresses[0]}
	ports := []corev1.ServicePort{{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80}, {Name: "dns", Protocol: corev1.ProtocolUDP, Port: 53}, {Protocol: corev1.ProtocolTCP, Port: 443}}
	const endpoint = `{"addresses":["10.244.0.1"],"targetRef":{"kind":"Pod","name":"a"}}`
	f.Add([]byte(`[{"metadata":{"name":"1","namespace":"default"},"addressType":"IPv4","ports":[{"name":"http","port":8080},{"name":"","port":1}],"endpoints":[` + endpoint + `]},
		{"metadata":{"name":"2","namespace":"default"},"addressType":"IPv4","ports":[{"name":"http","port":8081,"protocol":"TCP"}],"endpoints":[` + endpoint + `,
		{"addresses":["10.244.0.2"],"conditions":{"ready":false,"serving":true,"terminating":true},"targetRef":{"kind":"Pod","name":"b","namespace":"default"}}]}]`))
	f.Add([]byte(`[{"addressType":"IPv6","ports":[{"name":"dns","port":53,"protocol":"UDP"}],"endpoints":[{"addresses":["fd44::1"],"targetRef":{"kind":"Pod","name":"a"}},
		{"addresses":["10.0.0.1"],"targetRef":{"kind":"Pod","name":"h"}},{"addresses":["10.244.0.3"],"targetRef":{"kind":"Pod","name":"o"}}]}]`))
	f.Add([]byte(`[{"addressType":"IPv4","ports":[{"name":"http","port":80}],"endpoints":[` + endpoint + `]},{"addressType":"IPv6","ports":[{"name":"http","port":80}],"endpoints":[` + endpoint + `]}]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var all []*discoveryv1.EndpointSlice
		if json.Unmarshal(data, &all) != nil || slices.Contains(all, nil) {
			return
		}
		pod := func(name string) *Pod { return pods[name] }
		got := ReadEndpoints(ports, all, pod)
		for i := range ports {
			for _, ipv4 := range []bool{true, false} {
				answer, drain := got.of(&ports[i], ipv4, true)
				sent := slices.SortedFunc(slices.Values(slices.Concat(answer, drain)), func(a, b lb.Endpoint) int { return a.Address.Compare(b.Address) })
				for k, e := range sent {
					if a := e.Address.Addr(); e.Address.Port() == 0 || a.Is4() != ipv4 || !slices.Contains(may, a) || k > 0 && sent[k-1].Address.Addr() == a {
						t.Errorf("port %q, IPv4 %t, is sent to %v", ports[i].Name, ipv4, sent)
					}
				}
			}
		}
		slices.Reverse(all)
		if again := ReadEndpoints(ports, all, pod); !again.Same(got) {
			t.Errorf("%+v in one order, %+v in another", got, again)
		}
	})
}
