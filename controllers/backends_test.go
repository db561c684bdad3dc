package controllers

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/conditions"
	"github.com/external-lb/external-lb/internal/deliver"
	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/host"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/plan"
	"github.com/external-lb/external-lb/test/builder"
)

// seeing are n Services, and what one host says of the nodes behind them.
type seeing struct {
	views []conditions.Service
	host  deliver.Seen
}

func newSeeing(n int) *seeing {
	s := &seeing{}
	for i := range n {
		svc := builder.Service("default", fmt.Sprintf("web-%d", i)).Obj()
		svc.UID = types.UID(fmt.Sprintf("uid-%d", i))
		id := lb.ID{Namespace: svc.Namespace, Name: svc.Name, UID: string(svc.UID)}
		s.views = append(s.views, conditions.Service{Service: &plan.Service{Object: svc, Key: lb.ServiceKey(id)}})
		s.host.Traffic = append(s.host.Traffic, host.Traffic{Carried: engine.Carried{Service: id}})
	}
	return s
}

// say that so many nodes of the i-th are up, and so many down.
func (s *seeing) say(i, up, down int) { s.host.Traffic[i].Up, s.host.Traffic[i].Down = up, down }

// write what may be written now, and count that.
func (s *seeing) write(p *backendsPace, now time.Time) (written int, held bool) {
	b := builder.Balancer("edge").Hosts(v1alpha1.Host{Name: "lb1"}).Obj()
	held = p.add(s.views, conditions.NewBackends(b, []deliver.State{{Host: "lb1", Seen: &s.host}}), now)
	for i := range s.views {
		if c := s.views[i].Backends; c != nil {
			written++
			s.views[i].Object.Status.Conditions = []metav1.Condition{*c}
			s.views[i].Backends = nil
		}
	}
	return written, held
}

func reasonOf(svc *corev1.Service) string {
	if len(svc.Status.Conditions) == 0 {
		return ""
	}
	return svc.Status.Conditions[0].Reason
}

func TestBackends_OfAServiceAreToldOnceAMinute(t *testing.T) {
	s, p, now := newSeeing(1), newBackendsPace(), time.Now()
	s.say(0, 2, 0)
	if n, held := s.write(p, now); n != 0 || held {
		t.Errorf("all is well, as ever: %d written, %t", n, held)
	}
	s.say(0, 0, 2)
	if n, held := s.write(p, now); n != 1 || held || reasonOf(s.views[0].Object) != v1alpha1.ReasonNoNodeUp {
		t.Errorf("%d written, %t: %s", n, held, reasonOf(s.views[0].Object))
	}
	total := 0
	for i := range 120 { // it comes and goes each second for two minutes
		s.say(0, 2*(i%2), 2-2*(i%2))
		n, _ := s.write(p, now.Add(time.Duration(i)*time.Second))
		total += n
	}
	if total > 2 {
		t.Errorf("%d written in two minutes", total)
	}
	s.say(0, 2, 0)
	s.write(p, now.Add(time.Hour))
	if reasonOf(s.views[0].Object) != v1alpha1.ReasonAllNodesUp {
		t.Errorf("in the end: %s", reasonOf(s.views[0].Object))
	}
	if n, held := s.write(p, now.Add(2*time.Hour)); n != 0 || held {
		t.Errorf("nothing new: %d written, %t", n, held)
	}
}

func TestBackends_OfManyAreToldOneAfterTheOther(t *testing.T) {
	s, p, now := newSeeing(1000), newBackendsPace(), time.Now()
	for i := range s.views {
		s.say(i, 1, 1)
	}
	s.say(999, 0, 2)
	n, held := s.write(p, now)
	if n < backendsBurst || n > backendsBurst+backendsQPS || !held {
		t.Errorf("%d written, %t", n, held)
	}
	if reasonOf(s.views[999].Object) != v1alpha1.ReasonNoNodeUp {
		t.Errorf("the one that nobody reaches was held back: %q", reasonOf(s.views[999].Object))
	}
}
