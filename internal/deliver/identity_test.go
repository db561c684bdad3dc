package deliver

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/lb"
)

// named is a machine that says which it is.
type named struct {
	*machine
	agent string
}

func (n named) Identity() string { return n.agent }

// byAddress dials machines through the real protocol.
type byAddress map[string]named

func (m byAddress) Dial(ctx context.Context, t Target) (Conn, error) {
	return pipes{m[t.Host.Address]}.Dial(ctx, t)
}

// A machine that two hosts name, by its name and by its address, runs what the older one's
// Balancer wants, whoever comes first; a copy of it is another machine.
func TestOneMachineUnderTwoNames(t *testing.T) {
	old, young := time.Unix(1, 0), time.Unix(2, 0)
	for name, c := range map[string]struct {
		second   Target // beside lb1 of edge, which is old
		agent    string // of the second
		late     bool   // the first comes when the second is there
		taken    string // "": both are delivered
		of       string // whose the taken one is
		atTheEnd string // item on the machine
	}{
		"a younger Balancer":        {Target{Balancer: "young", Since: young}, "a", false, "Balancer edge, which is older", "young", "edge"},
		"a younger one comes first": {Target{Balancer: "young", Since: young}, "a", true, "Balancer edge, which is older", "young", "edge"},
		"an older Balancer":         {Target{Balancer: "older", Since: time.Unix(0, 0)}, "a", false, "Balancer older, which is older", "edge", "older"},
		"the same Balancer":         {Target{Balancer: "edge", Since: old}, "a", false, "host lb1 is the same machine", "edge", "edge"},
		"another machine":           {Target{Balancer: "young", Since: young}, "b", false, "", "", "edge"},
		"one that does not say who": {Target{Balancer: "young", Since: young}, "", false, "", "", "edge"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMachine()
				other := m
				if c.agent != "a" {
					other = newMachine()
				}
				f := NewFleet(Options{Leader: &leads{term: 1}, Log: quiet(t),
					Dialer: byAddress{"192.0.2.1": {m, "a"}, "lb1.example.com": {other, c.agent}}})
				defer f.Close()
				first := Target{Balancer: "edge", Since: old, Host: v1alpha1.Host{Name: "lb1", Address: "192.0.2.1"}}
				c.second.Host = v1alpha1.Host{Name: "lb2", Address: "lb1.example.com"}
				bring := func(balancer string, targets ...Target) {
					f.Set(balancer, targets)
					want := map[string]*lb.Set{}
					for _, t := range targets {
						want[t.Host.Name] = set(balancer + "=1")
					}
					f.Deliver(balancer, want, "service")
					synctest.Wait()
				}
				switch {
				case c.second.Balancer == "edge":
					bring("edge", first, c.second)
				case c.late:
					bring(c.second.Balancer, c.second)
					bring("edge", first)
				default:
					bring("edge", first)
					bring(c.second.Balancer, c.second)
				}
				time.Sleep(5 * time.Minute)
				synctest.Wait()
				for _, balancer := range []string{"edge", c.second.Balancer} {
					for i, s := range f.States(balancer) {
						lost := c.of == balancer && (i == 1 || balancer != "edge" || c.second.Balancer != "edge")
						if lost != (s.Reason == ReasonTaken) || lost && !strings.Contains(s.Message, c.taken) || !lost && s.State != v1alpha1.HostInSync {
							t.Errorf("%s %s: %s, %s: %s", balancer, s.Host, s.State, s.Reason, s.Message)
						}
					}
				}
				for _, s := range f.States(c.atTheEnd) {
					if s.Reason != ReasonTaken && !s.Serves(lb.Key(c.atTheEnd), sum("1")) {
						t.Errorf("%s: %+v", c.atTheEnd, s)
					}
				}
			})
		})
	}
}
