package cli

import (
	"fmt"
	"strings"
	"testing"
)

const apiBalancer = `
apiVersion: external-lb.dev/v1alpha1
kind: Balancer
metadata: {name: edge}
spec:
  hosts: [{name: lb1, address: 192.0.2.5, secretRef: {name: edge-ssh}}]
`

const apiNode = `
---
apiVersion: v1
kind: Node
metadata: {name: cp1, labels: {node-role.kubernetes.io/control-plane: ""}}
status: {addresses: [{type: InternalIP, address: 10.0.0.11}]}
`

// What stays whatever a controller delivers is what carries the API servers, and nothing else.
func TestWhatRootAppliesAndKeeps(t *testing.T) {
	const vrrp = "  virtualAddresses: {mode: VRRP, vrrp: {interface: eth0, virtualRouterID: 51}}\n"
	for manifest, want := range map[string]string{
		apiBalancer: "[]",
		apiBalancer + "  controlPlane: {address: 203.0.113.100}\n":        "[service/default/kubernetes/control-plane]",
		apiBalancer + vrrp + "  controlPlane: {address: 203.0.113.100}\n": "[service/default/kubernetes/control-plane vrrp address/203.0.113.100]",
		apiBalancer + vrrp: "[]",
	} {
		o, err := readManifests([]string{"-"}, "default", strings.NewReader(manifest+apiNode))
		if err != nil {
			t.Fatal(err)
		}
		p, err := o.plan(o.balancers[0])
		if err != nil {
			t.Fatal(err)
		}
		set, err := p.ofThisMachine()
		if err != nil {
			t.Fatal(err)
		}
		keep := p.keep(set)
		if got := fmt.Sprint(keep); got != want {
			t.Errorf("%s: it keeps %s, want %s", manifest, got, want)
		}
		for _, key := range keep {
			if _, sent := set.Get(key); !sent {
				t.Errorf("%s is not in what is applied", key)
			}
		}
	}
}
