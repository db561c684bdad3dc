package ipam

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/builder"
)

// population is 10,000 Services that have their addresses and 1,000 new ones.
func population(b *testing.B, pools []*Pool, family int, samePorts bool) []Request {
	b.Helper()
	requests := make([]Request, 10_000, 11_000)
	for i := range requests {
		requests[i] = newcomer(i, family, samePorts)
	}
	got, _ := assign(pools, requests)
	for i := range requests {
		a := got[requests[i].UID].Addresses
		requests[i].Published, requests[i].Recorded, requests[i].Listeners = a, a, got[requests[i].UID].Listeners
		if len(a) == 0 {
			b.Fatalf("%s has no address: %v", requests[i].Name, got[requests[i].UID].Problem)
		}
	}
	for i := range 1_000 {
		requests = append(requests, newcomer(10_000+i, family, samePorts))
	}
	return requests
}

func newcomer(i, family int, samePorts bool) Request {
	r := Request{
		UID: types.UID(fmt.Sprintf("%08x-0000-4000-8000-000000000000", i)), Name: fmt.Sprintf("tenant-%d/web", i),
		Created: epoch.Add(time.Duration(i%977) * time.Second), Labels: labels.Set{"app": "web"},
		Families: dual(v4, v6)[family : family+1], Ports: ports(80, 443),
	}
	if !samePorts {
		r.Ports = ports(uint16(1024+2*i), uint16(1025+2*i))
	}
	return r
}

func BenchmarkAssign(b *testing.B) {
	for _, bench := range []struct {
		name      string
		pool      *builder.AddressPoolBuilder
		family    int
		samePorts bool
		exhausted bool
	}{
		{"IPv4", builder.AddressPool("p", "10.0.0.0/16"), 0, true, false},
		{"IPv6 of a /64", builder.AddressPool("p", "2001:db8::/64"), 1, true, false},
		{"one shared address", builder.AddressPool("p", "192.0.2.1").Shared(), 0, false, false},
		{"256 shared addresses", builder.AddressPool("p", "192.0.2.0/24").Shared(), 0, false, false},
		{"exhausted", builder.AddressPool("p", "10.0.0.0-10.0.39.15"), 0, true, true},
		{"exhausted, shared", builder.AddressPool("p", "10.0.0.0-10.0.39.15").Shared(), 0, true, true},
	} {
		b.Run(bench.name, func(b *testing.B) {
			pools, _ := parse(bench.pool)
			requests := population(b, pools, bench.family, bench.samePorts)
			b.ReportAllocs()
			for b.Loop() {
				got, _ := assign(pools, requests)
				last := got[requests[len(requests)-1].UID]
				if (last.Problem != nil) != bench.exhausted {
					b.Fatal(last.Problem)
				}
			}
		})
	}
}

// BenchmarkOneMore is what a Service more costs among those that have their addresses.
func BenchmarkOneMore(b *testing.B) {
	for _, services := range []int{1_000, 10_000} {
		b.Run(fmt.Sprint(services), func(b *testing.B) {
			pools, _ := parse(builder.AddressPool("p", "10.0.0.0/16"))
			x := NewAssigner(pools)
			for _, r := range population(b, pools, 0, true)[:services] {
				x.Set(&r)
			}
			x.Assign()
			b.ReportAllocs()
			for i := services; b.Loop(); i++ {
				r := newcomer(i, 0, true)
				x.Set(&r)
				if got, _ := x.Assign(); len(got[r.UID].Addresses) != 1 {
					b.Fatal(got[r.UID].Problem)
				}
				x.Remove(r.UID)
			}
		})
	}
}

func BenchmarkParsePools(b *testing.B) {
	var pools []v1alpha1.AddressPool
	for i := range 100 {
		var ranges []v1alpha1.AddressRange
		for j := range 256 {
			a := netip.AddrFrom4([4]byte{10, byte(i), byte(j), 0})
			ranges = append(ranges, v1alpha1.AddressRange(a.String()+"/25"))
		}
		pools = append(pools, *builder.AddressPool(fmt.Sprintf("p%d", i), ranges...).Obj())
	}
	b.ReportAllocs()
	for b.Loop() {
		if accepted, _, problems := ParsePools(pools); len(accepted) != 100 {
			b.Fatal(problems)
		}
	}
}
