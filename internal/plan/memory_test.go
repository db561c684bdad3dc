package plan

import (
	"fmt"
	"runtime"
	"runtime/metrics"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/test/builder"
)

// large is a cluster with VRRP and two hosts, in which each Service has two ports and
// an address of its own.
func large(services, nodes int) (*v1alpha1.Balancer, Objects) {
	b := builder.Balancer("edge").With(withVRRP).Obj()
	b.Spec.Hosts = []v1alpha1.Host{{Name: "lb1"}, {Name: "lb2"}}
	pool := builder.AddressPool("pool", "10.0.0.0/16").Shared().Obj()
	o := Objects{Balancers: []*v1alpha1.Balancer{b}, Pools: ParsePools([]v1alpha1.AddressPool{*pool})}
	for i := range services {
		address := fmt.Sprintf("10.0.%d.%d", i/256, i%256)
		svc := service(fmt.Sprintf("service-%d", i), held("edge", address), published(address), onPort(80))
		svc.Spec.Ports = append(svc.Spec.Ports, corev1.ServicePort{Name: "https", Port: 443, NodePort: 30443, Protocol: corev1.ProtocolTCP})
		o.Services = append(o.Services, svc)
	}
	for i := range nodes {
		n := builder.Node(fmt.Sprintf("node-%d.cluster.example", i)).IP(fmt.Sprintf("172.16.%d.%d", i/250, i%250+1))
		o.Nodes = append(o.Nodes, n.Obj())
	}
	return b, o
}

// planPeak plans a cluster, then again with a node more, and returns what the heap had
// at most meanwhile, and what of it is in use at the end. Both are of the whole process,
// with the objects of the cluster.
func planPeak(t testing.TB, services, nodes int) (peak, live uint64) {
	t.Helper()
	b, o := large(services, nodes)
	runtime.GC()
	done, measured := make(chan struct{}), make(chan uint64)
	go func() {
		sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
		ticker := time.NewTicker(time.Millisecond)
		defer ticker.Stop()
		var most uint64
		for {
			metrics.Read(sample)
			most = max(most, sample[0].Value.Uint64())
			select {
			case <-done:
				measured <- most
				return
			case <-ticker.C:
			}
		}
	}()
	planner := NewPlanner(b.Spec.Engine)
	var before *Plan
	for round := range 3 {
		s := NewSnapshot(b, o)
		p, err := planner.Plan(s, planner.Assign(s))
		if err != nil {
			t.Fatal(err)
		}
		if len(p.Services) != services || p.Set.Len() != 2*services+len(o.Nodes) {
			t.Fatalf("%d Services, %d items", len(p.Services), p.Set.Len())
		}
		if round > 0 {
			if c := lb.Diff(before.Set.Manifest(), p.Set); len(c.Put) != 1 {
				t.Errorf("a node more is %d items", len(c.Put))
			}
		}
		before = p
		n := o.Nodes[0].DeepCopy()
		n.Name, n.Status.Addresses[0].Address = fmt.Sprintf("more-%d", round), fmt.Sprintf("172.17.0.%d", round+1)
		o.Nodes = append(o.Nodes, n)
	}
	close(done)
	peak = <-measured
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	runtime.KeepAlive(planner)
	runtime.KeepAlive(before)
	runtime.KeepAlive(o)
	return peak, m.HeapAlloc
}

// Memory goes by Services plus nodes, never by one times the other.
func TestMemoryOfLargeClusters(t *testing.T) {
	for _, c := range []struct {
		services, nodes int
		limit           uint64 // in MB
	}{{1384, 1000, 150}, {10_000, 1000, 400}} {
		began := time.Now()
		peak, live := planPeak(t, c.services, c.nodes)
		t.Logf("%d Services on %d nodes: at most %d MB, %d MB live after three plans, which took %s",
			c.services, c.nodes, peak>>20, live>>20, time.Since(began).Round(time.Millisecond))
		if peak>>20 > c.limit {
			t.Errorf("%d Services on %d nodes take %d MB, more than %d", c.services, c.nodes, peak>>20, c.limit)
		}
	}
}

func BenchmarkPlan(b *testing.B) {
	for _, size := range [][2]int{{1384, 1000}, {10_000, 1000}, {10_000, 5000}} {
		b.Run(fmt.Sprintf("%dx%d", size[0], size[1]), func(b *testing.B) {
			edge, o := large(size[0], size[1])
			planner := NewPlanner(edge.Spec.Engine)
			plan := func() {
				s := NewSnapshot(edge, o)
				if _, err := planner.Plan(s, planner.Assign(s)); err != nil {
					b.Fatal(err)
				}
			}
			plan() // the first one has nothing to remember
			b.ReportAllocs()
			for b.Loop() {
				plan()
			}
			peak, live := planPeak(b, size[0], size[1])
			b.ReportMetric(float64(peak>>20), "MB-peak")
			b.ReportMetric(float64(live>>20), "MB-live")
		})
	}
}
