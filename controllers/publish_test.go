package controllers

import (
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/deliver"
	"github.com/external-lb/external-lb/internal/plan"
)

// What keeps a Service from being proved is told, and never with empty words.
func TestWhyAServiceIsNotProgrammed(t *testing.T) {
	vrrp := &v1alpha1.Balancer{}
	vrrp.Name, vrrp.Spec.VirtualAddresses.Mode = "edge", v1alpha1.VRRP
	well := deliver.State{Host: "lb1", State: v1alpha1.HostInSync}
	active, away := well, deliver.State{Host: "lb1", State: v1alpha1.HostUnreachable, Message: "no route"}
	active.Active = true
	conflict := []plan.Problem{{Reason: v1alpha1.ReasonPortConflict, Message: "default/older has it"}}
	const unproved, keepalived = "too few hosts can prove it: ", "no host has the addresses: see keepalived on the hosts"
	for name, c := range map[string]struct {
		balancer      *v1alpha1.Balancer
		state         deliver.State
		shape         string
		problems      []plan.Problem
		reason, words string
		says          string
	}{
		"no listener left":       {&v1alpha1.Balancer{}, well, "", conflict, v1alpha1.ReasonPortConflict, "", "default/older has it"},
		"some listeners left":    {&v1alpha1.Balancer{}, away, "s", conflict, v1alpha1.ReasonHostsUnreachable, unproved, "lb1 is Unreachable: no route"},
		"out of reach":           {vrrp, away, "s", nil, v1alpha1.ReasonHostsUnreachable, unproved, "lb1 is Unreachable: no route"},
		"nobody has the address": {vrrp, well, "s", nil, v1alpha1.ReasonHostsUnreachable, unproved, keepalived},
		"nothing is wrong":       {vrrp, active, "s", nil, "", "", ""},
		"not on the hosts yet":   {&v1alpha1.Balancer{}, well, "", nil, "", "", ""},
	} {
		svc := &plan.Service{Object: &corev1.Service{}, Shape: c.shape, Problems: c.problems, From: "old"}
		hosts := whyUnproved(c.balancer, []deliver.State{c.state})
		got, known := programmedCondition(svc, proof{settled: true}, hosts)
		if known != (c.reason != "") || known && (got.Reason != c.reason || got.Message != c.words+c.says) {
			t.Errorf("%s: %t, %s: %q", name, known, got.Reason, got.Message)
		}
		if c.reason == "" {
			c.reason, c.says = v1alpha1.ReasonPending, ", which is to prove it first"
		}
		wants := map[string]string{
			v1alpha1.ReasonPortConflict:     ", which cannot take it: " + c.says,
			v1alpha1.ReasonHostsUnreachable: ", of which " + c.words + c.says,
			v1alpha1.ReasonPending:          c.says,
		}
		want := "Balancer old carries it; it moves to Balancer " + c.balancer.Name + wants[c.reason]
		if got := movingFrom(c.balancer, svc, proof{settled: true}, "", hosts); got.Reason != c.reason || got.Message != want {
			t.Errorf("%s, on its way: %s: %q", name, got.Reason, got.Message)
		}
	}
}
