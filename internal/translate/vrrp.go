package translate

import (
	"time"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/lb"
)

// Priorities of hosts fall in the order of spec.hosts, and those of hosts that
// are drained lie below all others. There are 16 hosts at most.
const (
	firstPriority   = 250
	firstIfDrained  = 80
	priorityStep    = 10
	drainedStep     = 5
	defaultInterval = time.Second
)

// virtualRouter is how a Balancer's hosts share its addresses, by the name of each;
// nil if they do not. The API server's schema refuses what cannot be read; manifests
// from files may hold it, and the host refuses the result.
func virtualRouter(b *v1alpha1.Balancer) map[string]*lb.VRRP {
	set := b.Spec.VirtualAddresses.VRRP
	if !b.Spec.UsesVRRP() || set == nil {
		return nil
	}
	v := lb.VRRP{Interface: set.Interface, Interval: defaultInterval}
	if set.VirtualRouterID > 0 && set.VirtualRouterID < 256 {
		v.RouterID = uint8(set.VirtualRouterID)
	}
	if set.AdvertisementInterval != "" {
		v.Interval, _ = time.ParseDuration(string(set.AdvertisementInterval)) // 0 is refused
	}
	out := make(map[string]*lb.VRRP, len(b.Spec.Hosts))
	for i, h := range b.Spec.Hosts {
		priority := firstPriority - i*priorityStep
		if h.Drain {
			priority = firstIfDrained - i*drainedStep
		}
		own := v
		own.Priority = uint8(priority)
		out[h.Name] = &own
	}
	return out
}
