package controllers

import (
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/api/v1alpha1"
)

// causes are why Balancers are to be looked at. Each status that is written comes back as
// an event, which is no news to the Balancer that has written it.
type causes struct {
	mu sync.Mutex
	of map[string]*cause
}

// cause is why one Balancer is to be looked at.
type cause struct {
	must     bool // whatever came
	whole    bool // which Services matter may be another, or is not known
	objects  map[types.UID]*arrival
	services map[types.UID]types.NamespacedName
}

// arrival is what came of one object.
type arrival struct {
	versions []string
	whole    bool // see cause
}

func newCauses() *causes { return &causes{of: map[string]*cause{}} }

func (c *causes) get(balancer string) *cause {
	why := c.of[balancer]
	if why == nil {
		why = &cause{objects: map[types.UID]*arrival{}, services: map[types.UID]types.NamespacedName{}}
		c.of[balancer] = why
	}
	return why
}

// came notes a version of an object, or that it is gone.
func (c *causes) came(balancer string, obj client.Object, gone bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	why, uid, whole := c.get(balancer), obj.GetUID(), false
	switch obj.(type) {
	case *corev1.Service:
		why.services[uid] = client.ObjectKeyFromObject(obj)
	case *corev1.Node, *v1alpha1.UpstreamPolicy: // these are always read
	default:
		whole = true
	}
	if gone {
		why.must, why.whole = true, why.whole || whole
		return
	}
	now := why.objects[uid]
	if now == nil {
		now = &arrival{whole: whole}
		why.objects[uid] = now
	}
	if v := obj.GetResourceVersion(); !slices.Contains(now.versions, v) {
		now.versions = append(now.versions, v)
	}
}

// must notes that a Balancer is to be looked at: all of it, where whole says so.
func (c *causes) must(balancer string, whole bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	why := c.get(balancer)
	why.must, why.whole = true, why.whole || whole
}

// news takes what came for a Balancer since the last time, and reports whether there is
// more than what it has written itself.
func (c *causes) news(balancer string, w *written) (why *cause, news bool) {
	c.mu.Lock()
	why = c.of[balancer]
	delete(c.of, balancer)
	c.mu.Unlock()
	if why == nil {
		return nil, false
	}
	for uid, came := range why.objects {
		for _, v := range came.versions {
			if !w.isEcho(balancer, uid, v) {
				news, why.whole = true, why.whole || came.whole
			}
		}
	}
	return why, news || why.must
}
