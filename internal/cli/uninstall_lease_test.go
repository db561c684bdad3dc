package cli

import (
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// Clocks of two machines are not compared: a Lease is expired when it has not changed
// for as long as it holds.
func TestLeaseWatch_SeesWhoIsGone(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	lease := &coordinationv1.Lease{}
	hold(lease, "manager-1", 14*time.Second, start.Add(-time.Hour)) // 15 s
	var w leaseWatch
	for _, look := range []struct {
		after   time.Duration
		renewed bool
		want    bool
	}{
		{0, false, false}, {10 * time.Second, false, false}, {14 * time.Second, true, false},
		{28 * time.Second, false, false}, {30 * time.Second, false, true},
	} {
		if look.renewed {
			lease.Spec.RenewTime = ptr.To(metav1.NewMicroTime(start))
		}
		if got := w.expired(lease, start.Add(look.after)); got != look.want {
			t.Errorf("after %s: %t", look.after, got)
		}
	}
}
