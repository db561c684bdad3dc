package deliver

import (
	"strings"
	"testing"
)

// A host that is prepared for something else is told what to do about exactly that.
func TestAHostOfAnotherEngine(t *testing.T) {
	for _, c := range []struct{ has, wants, words string }{
		{"nginx", "haproxy", "run `external-lb host install --engine haproxy`"},
		{"nginx", "haproxy+lvs", "run `external-lb host install --engine haproxy --datagrams lvs`"},
		{"haproxy", "haproxy+lvs", "add the line `datagrams: lvs` to /etc/external-lb/host.yaml there"},
		{"haproxy+lvs", "haproxy", "datagrams are carried by lvs on the host, but not by the Balancer: set its spec.datagrams"},
	} {
		if e := wrongEngine(c.has, c.wants); e.Reason != ReasonEngine || !strings.Contains(e.Message, c.words) {
			t.Errorf("%s for %s: %s", c.has, c.wants, e.Message)
		}
	}
}
