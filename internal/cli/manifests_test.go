package cli

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

// FuzzManifests: what is read is never a reason to fall over.
func FuzzManifests(f *testing.F) {
	f.Add([]byte(twoHosts))
	f.Add([]byte("# a\n---\n{\"kind\": 1}\n{}\n--- # b\n- c"))
	f.Fuzz(func(t *testing.T, data []byte) {
		o, err := readManifests([]string{"-"}, "default", bytes.NewReader(data))
		if err != nil {
			return
		}
		for _, b := range o.balancers {
			if _, err := o.plan(b); err != nil {
				return
			}
		}
	})
}

func TestFamiliesOfServices(t *testing.T) {
	const v4, v6 = corev1.IPv4Protocol, corev1.IPv6Protocol
	node := func(addresses string) string {
		return "\n---\n{apiVersion: v1, kind: Node, metadata: {name: node1}, status: {addresses: [" + addresses + "]}}"
	}
	only4, only6 := node("{type: InternalIP, address: 10.0.0.1}"), node("{type: InternalIP, address: 2001:db8::1}")
	dual := node("{type: InternalIP, address: 10.0.0.1}, {type: ExternalIP, address: 2001:db8::1}, {type: Hostname, address: node1}")
	for name, test := range map[string]struct {
		spec, nodes string
		want        []corev1.IPFamily
	}{
		"single stack":              {"", only4, []corev1.IPFamily{v4}},
		"single stack of IPv6":      {"", only6, []corev1.IPFamily{v6}},
		"on a dual-stack cluster":   {"", dual, []corev1.IPFamily{v4}},
		"prefers both, has one":     {"ipFamilyPolicy: PreferDualStack", only4, []corev1.IPFamily{v4}},
		"prefers both, has both":    {"ipFamilyPolicy: PreferDualStack", dual, []corev1.IPFamily{v4, v6}},
		"requires both":             {"ipFamilyPolicy: RequireDualStack", only4, []corev1.IPFamily{v4, v6}},
		"says itself what it wants": {"ipFamilies: [IPv6]", dual, []corev1.IPFamily{v6}},
	} {
		t.Run(name, func(t *testing.T) {
			manifest := "{apiVersion: v1, kind: Service, metadata: {name: s}, spec: {" + test.spec + "}}" + test.nodes
			o, err := readManifests([]string{"-"}, "default", bytes.NewReader([]byte(manifest)))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, o.services[0].Spec.IPFamilies); diff != "" {
				t.Error(diff)
			}
		})
	}
}
