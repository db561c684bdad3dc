package openstack

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/monitors"
)

// What is PENDING below a load balancer that is ACTIVE is about to be finished, and left alone. Where it stays so,
// it is stuck.
func TestFinishing_EndsSoonOrNever(t *testing.T) {
	for what, begin := range map[string]func(*tree){
		"a listener": func(t *tree) { t.listeners[0].ProvisioningStatus = "PENDING_UPDATE" },
		"a pool":     func(t *tree) { t.pools[1].ProvisioningStatus = "PENDING_CREATE" },
		"a member":   func(t *tree) { t.pools[0].members[1].ProvisioningStatus = "PENDING_UPDATE" },
		"a monitor":  func(t *tree) { t.pools[0].monitor = &monitors.Monitor{ProvisioningStatus: "PENDING_DELETE"} },
	} {
		synctest.Test(t, func(t *testing.T) {
			var m mends
			done, is := made(spec()), made(spec())
			begin(is)
			want := func(moment string, at *tree, finishing bool) {
				if got := m.finishing(at); got != finishing {
					t.Errorf("%s, %s: %t", what, moment, got)
				}
			}
			want("nothing", done, false)
			want("at once", is, true)
			time.Sleep(mendInterval / 2)
			want("a moment later", is, true)
			time.Sleep(mendInterval)
			want("stuck", is, false)
			want("mended", done, false)
			want("the next change", is, true)
		})
	}
}
