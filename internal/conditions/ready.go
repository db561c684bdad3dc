package conditions

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
)

// whole are some conditions of an object with what tools look at that know nothing of
// our kinds: Ready, of the first so many of them, and Stalled.
func whole(needed int, of ...metav1.Condition) []metav1.Condition {
	is := ready(of[:needed]...)
	return append([]metav1.Condition{is, stalled(is)}, of...)
}

// ready is true if all of some conditions are. It is about the oldest generation of them, or of the first that is
// not true.
func ready(of ...metav1.Condition) metav1.Condition {
	c := metav1.Condition{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, ObservedGeneration: of[0].ObservedGeneration}
	for _, o := range of {
		if c.ObservedGeneration = min(c.ObservedGeneration, o.ObservedGeneration); o.Status != metav1.ConditionTrue {
			c.Status, c.Reason, c.Message, c.ObservedGeneration = metav1.ConditionFalse, o.Reason, o.Message, o.ObservedGeneration
			return c
		}
		c.Reason, c.Message = o.Reason, o.Message
	}
	return c
}

// stalled says whether an object waits for somebody to correct it. What is missing may
// come, a host may answer again: that is no reason to give up.
func stalled(ready metav1.Condition) metav1.Condition {
	c := ready
	c.Type = v1alpha1.ConditionStalled
	if ready.Status != metav1.ConditionTrue && (ready.Reason == v1alpha1.ReasonInvalid || ready.Reason == v1alpha1.ReasonOverlap) {
		c.Status = metav1.ConditionTrue
		return c
	}
	c.Status, c.Reason, c.Message = metav1.ConditionFalse, v1alpha1.ReasonNotStalled, ""
	return c
}
