package controllers

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/builder"
)

// What a Balancer wrote comes back: that alone starts no other look at it. It is news to
// others, and so is what somebody else wrote before it.
func TestOwnWritesAreNoNews(t *testing.T) {
	version := func(v string) *corev1.Service {
		return builder.Service("default", "web").With(func(s *corev1.Service) { s.ResourceVersion = v }).Obj()
	}
	for name, c := range map[string]struct {
		came     []string
		must     bool
		balancer string
		news     bool
	}{
		"nothing":                     {nil, false, "edge", false},
		"its own":                     {[]string{"5"}, false, "edge", false},
		"its own, seen by two":        {[]string{"5", "5"}, false, "edge", false},
		"both of its own":             {[]string{"5", "6"}, false, "edge", false},
		"another one's":               {[]string{"5"}, false, "other", true},
		"a user's, then its own":      {[]string{"4", "5"}, false, "edge", true},
		"its own, and a host's":       {[]string{"5"}, true, "edge", true},
		"a host's alone":              {nil, true, "edge", true},
		"its own, then somebody else": {[]string{"5", "7"}, false, "edge", true},
	} {
		t.Run(name, func(t *testing.T) {
			w, why := newWritten(), newCauses()
			w.begin("edge")
			w.final(version("5"))
			w.final(version("6"))
			for _, v := range c.came {
				why.came(c.balancer, version(v), false)
			}
			if c.must {
				why.must(c.balancer, false)
			}
			if _, news := why.news(c.balancer, w); news != c.news {
				t.Errorf("news: %t", news)
			}
			if _, again := why.news(c.balancer, w); again {
				t.Error("the same is news twice")
			}
		})
	}
}

// Somebody may change a Service between our reading and our writing: then our own version
// of it is news.
func TestOnlyWhatIsForeseenIsNoNews(t *testing.T) {
	ours := metav1.Condition{Type: v1alpha1.ConditionServiceProgrammed, Status: metav1.ConditionTrue}
	theirs := metav1.Condition{Type: "example.com/Theirs", Status: metav1.ConditionTrue}
	before := builder.Service("default", "web").Port(80).With(func(s *corev1.Service) {
		s.Status.Conditions = []metav1.Condition{theirs}
	}).Obj()
	status := object{"conditions": []any{ours}, "loadBalancer": object{}}
	for name, c := range map[string]struct {
		status object
		change func(*corev1.Service)
		want   bool
	}{
		"nothing else":        {status, func(*corev1.Service) {}, true},
		"our own address":     {status, published("192.0.2.1"), true},
		"an address":          {object{"conditions": []any{ours}}, published("192.0.2.1"), false},
		"our own condition":   {status, func(s *corev1.Service) { s.Status.Conditions = append(s.Status.Conditions, ours) }, true},
		"our own is gone":     {object{"conditions": []any{object{"type": theirs.Type, "$patch": "delete"}}}, func(s *corev1.Service) { s.Status.Conditions = nil }, true},
		"another's condition": {status, func(s *corev1.Service) { s.Status.Conditions[0].Status = metav1.ConditionFalse }, false},
		"the spec":            {status, func(s *corev1.Service) { s.Spec.Ports[0].NodePort++ }, false},
		"an annotation":       {status, func(s *corev1.Service) { metav1.SetMetaDataAnnotation(&s.ObjectMeta, "a", "b") }, false},
		"a label":             {status, func(s *corev1.Service) { metav1.SetMetaDataLabel(&s.ObjectMeta, "a", "b") }, false},
		"a deletion":          {status, func(s *corev1.Service) { s.DeletionTimestamp = ptr.To(metav1.Now()) }, false},
	} {
		answer := before.DeepCopy()
		c.change(answer)
		if got := foreseen(before, answer, nil, c.status); got != c.want {
			t.Errorf("%s: foreseen %t", name, got)
		}
	}
}

func published(address string) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: address}} }
}
