package conditions

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/ipam"
)

// Pool is what a pool's status is made of.
type Pool struct {
	Object  *v1alpha1.AddressPool
	Problem *ipam.Problem // why it is not in force; nil: it is
	Note    *ipam.Problem // what is not as its owner may think
	Usage   ipam.Usage
}

// Conditions are Ready, Stalled and Accepted, not dated yet.
func (p Pool) Conditions() []metav1.Condition {
	c := metav1.Condition{
		Type: v1alpha1.ConditionAccepted, Status: metav1.ConditionTrue,
		Reason: v1alpha1.ReasonAccepted, Message: "in force", ObservedGeneration: p.Object.Generation,
	}
	if p.Note != nil {
		c.Reason, c.Message = p.Note.Reason, p.Note.Message
	}
	if p.Problem != nil {
		c.Status, c.Reason, c.Message = metav1.ConditionFalse, p.Problem.Reason, p.Problem.Message
	}
	return whole(1, c)
}

// AddressUsage is nil for a family of which the pool has no addresses.
func AddressUsage(u ipam.FamilyUsage) *v1alpha1.AddressUsage {
	if u.Capacity == 0 {
		return nil
	}
	return &v1alpha1.AddressUsage{Capacity: u.Capacity, Assigned: u.Assigned}
}
