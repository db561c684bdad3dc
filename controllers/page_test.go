package controllers

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/internal/deliver"
	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/host"
	"github.com/external-lb/external-lb/internal/ui/page"
)

// leases is an API server with one Lease.
type leases struct {
	client.Reader
	holder *string
	err    error
}

func (l leases) Get(_ context.Context, _ client.ObjectKey, obj client.Object, _ ...client.GetOption) error {
	obj.(*coordinationv1.Lease).Spec.HolderIdentity = l.holder
	return l.err
}

// The manager that leads tells what hosts told it, and has them asked. Another one says who
// that is.
func TestThePageHasTheTrafficOfTheLeader(t *testing.T) {
	elected := make(chan struct{})
	s := &seen{states: map[string][]deliver.State{"edge": {
		{Host: "lb1", Seen: &deliver.Seen{At: time.Unix(2, 0), Traffic: []host.Traffic{
			trafficAt("192.0.2.1", 80, engine.Counts{Open: 1, Made: 2, Refused: 3, Failed: 4, BytesIn: 5, BytesOut: host.Unknown}, 2, 1),
		}}},
		{Host: "lb2", Seen: &deliver.Seen{At: time.Unix(2, 0), Message: "it does not answer"}},
		{Host: "lb3"},
	}}}
	s.states["edge"][0].Seen.Traffic[0].Named = []host.DownNode{{Node: "node1"}}
	v := viewed{server: leases{holder: new("pod-2_uid")}, elected: elected, hosts: s, name: "pod-1"}
	for want, server := range map[string]leases{
		"look at the page of pod-2":           {holder: new("pod-2_uid")},
		"no manager leads at the moment":      {holder: new("")},
		"who leads is not known: not allowed": {err: errors.New("not allowed")},
	} {
		v.server = server
		if _, err := v.traffic(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if s.looked != 0 || v.describe() != "the manager pod-1, which does not lead" {
		t.Errorf("%d looks of %q", s.looked, v.describe())
	}

	close(elected)
	got, err := v.traffic(t.Context())
	if err != nil || s.looked != 1 || v.describe() != "the manager pod-1, which leads" {
		t.Errorf("%v, %d looks of %q", err, s.looked, v.describe())
	}
	web := page.PortLook{Service: types.NamespacedName{Namespace: "default", Name: "web"}, Open: 1,
		Counts: page.Counts{Made: 2, Refused: 3, Failed: 4, In: 5, Out: -1}, Up: 2, Down: 1, DownNodes: []page.DownNode{{Node: "node1"}}}
	want := []page.Look{
		{Balancer: "edge", Host: "lb1", At: time.Unix(2, 0), Ports: []page.PortLook{web}},
		{Balancer: "edge", Host: "lb2", At: time.Unix(2, 0), Silent: "it does not answer"},
		{Balancer: "edge", Host: "lb3", Silent: "it has not told yet what its daemons see"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
