package deliver

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/external-lb/external-lb/api/v1alpha1"
)

// A host that is prepared for something else is told what to do about exactly that.
func TestAHostOfAnotherEngine(t *testing.T) {
	for _, c := range []struct{ has, wants, words string }{
		{"nginx", "haproxy", "end what nginx reads there, write `engine: haproxy` into /etc/external-lb/host.yaml, keep what else is in there, and run `external-lb host install`"},
		{"nginx", "haproxy+lvs", "/host.yaml, add the line `datagrams: lvs`, keep what else"},
		{"nginx+lvs", "haproxy", "/host.yaml, take the line `datagrams` out, keep what else"},
		{"nginx+lvs", "haproxy+lvs", "/host.yaml, keep what else"},
		{"haproxy", "haproxy+lvs", "add the line `datagrams: lvs` to /etc/external-lb/host.yaml there"},
		{"haproxy+lvs", "haproxy", "datagrams are carried by lvs on the host, but not by the Balancer: set its spec.datagrams"},
	} {
		if e := wrongEngine(c.has, c.wants); e.Reason != ReasonEngine || !strings.Contains(e.Message, c.words) {
			t.Errorf("%s for %s: %s", c.has, c.wants, e.Message)
		}
	}
}

// A Balancer that wants something else of its hosts than before sends them nothing until they
// are prepared for it: they would refuse what they do not carry.
func TestAHostIsPreparedBeforeItIsSentSomethingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fx := newFixture(t, 1)
		fx.targets[0].Engine = "nginx"
		fx.Set("edge", fx.targets)
		fx.Deliver("edge", set("a=1"), "service")
		fx.waitState(t, time.Second, v1alpha1.HostInSync)
		fx.targets[0].Engine = "nginx+lvs"
		fx.Set("edge", fx.targets)
		fx.Deliver("edge", set("a=2"), "service")
		fx.waitState(t, time.Second, v1alpha1.HostFailed)
		synctest.Wait()
		if s := fx.state(); s.Reason != ReasonEngine || len(fx.machines[0].applies) != 1 {
			t.Errorf("%d deliveries, %+v", len(fx.machines[0].applies), s)
		}
	})
}
