package host

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/admit"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/translate"
	"github.com/external-lb/external-lb/test/builder"
)

// crowd is a namespace whose owner has as much as he can, and a manager that has a host carry it.
type crowd struct {
	in         translate.Input
	translator *translate.Translator
	encoder    lb.Encoder
	model      *model
}

func newCrowd(t *testing.T, services int, change func(b *v1alpha1.BalancerSpec), each func(i int) translate.Service) *crowd {
	t.Helper()
	c := &crowd{translator: translate.New(), model: &model{wanted: wanted{noItems(), noItems()}, sizes: map[lb.Sum]int{}}}
	c.in.Balancer = builder.Balancer("edge").Obj()
	change(&c.in.Balancer.Spec)
	c.in.Nodes = []*corev1.Node{builder.Node("n1").IP("10.0.0.1", "fd00::1").Obj()}
	for i := range services {
		s := each(i)
		s.Object.UID, s.Object.ResourceVersion = types.UID(fmt.Sprint("uid-", i)), "1"
		s.Object.CreationTimestamp = metav1.Unix(int64(i), 0)
		c.in.Services = append(c.in.Services, s)
	}
	return c
}

// deliver what the manager makes of it, and return what the host wants then of a Service.
func (c *crowd) deliver(t *testing.T, name string) *lb.Service {
	t.Helper()
	set, err := c.encoder.Encode(c.translator.Translate(c.in).Config)
	if err != nil {
		t.Fatal(err)
	}
	have := c.model.wanted.sums
	change := lb.Diff(have, set)
	next, err := c.model.changed(Delivery{Base: have.Digest(), Change: change, Want: set.Digest()})
	if err != nil {
		t.Fatalf("the whole delivery is refused: %v", err)
	}
	for _, it := range change.Put {
		c.model.sizes[it.Sum] = len(it.Data)
	}
	c.model.wanted = *next
	for _, part := range next.parts {
		if s, ok := part.(*lb.Service); ok && s.ID.Namespace == "neighbour" && s.ID.Name == name {
			return s
		}
	}
	return nil
}

// Who comes last is refused by a host that is full, whoever filled it: so no manager fills one.
func TestTenants_TogetherLeaveRoom(t *testing.T) {
	if lb.MaxAllFrontends+lb.MaxFrontends >= admit.MaxListeners || lb.MaxAllItems >= lb.MaxItems {
		t.Errorf("%d ports and %d items are as many as a host takes", lb.MaxAllFrontends, lb.MaxAllItems)
	}
	const ofAPod = 28 // bytes of its address, port and state, at most
	if most := lb.MaxAllBytes + lb.MaxAllEndpoints*ofAPod; most >= lb.MaxSetBytes {
		t.Errorf("%d bytes are as many as a host takes", most)
	}
}

// Whatever one namespace has, the Services of others come, change and go.
func TestTenants_OneStopsNoDelivery(t *testing.T) {
	ranges := make([]string, 4096) // as many as a Service may have
	for i := range ranges {
		ranges[i] = fmt.Sprintf("2001:db8:%x::/64", i+1)
	}
	ports := func(b *builder.ServiceBuilder, n int) *builder.ServiceBuilder {
		for i := range n {
			b.PortOf(corev1.ProtocolTCP, int32(i+1), int32(30000+i))
		}
		return b
	}
	at := func(a netip.Addr, b *builder.ServiceBuilder) translate.Service {
		return translate.Service{Object: b.Obj(), Addresses: []netip.Addr{a}}
	}
	hostile := func(i int) *builder.ServiceBuilder { return builder.Service("hostile", fmt.Sprint("s", i)) }
	address := netip.MustParseAddr("2001:db8::1")
	static := func(*v1alpha1.BalancerSpec) {}
	for name, c := range map[string]*crowd{
		"bytes":     newCrowd(t, 720, static, func(i int) translate.Service { return at(address, ports(hostile(i), 1).Ranges(ranges...)) }),
		"listeners": newCrowd(t, 520, static, func(i int) translate.Service { return at(address, ports(hostile(i), lb.MaxFrontends)) }),
		"items": newCrowd(t, 70_000, func(b *v1alpha1.BalancerSpec) {
			b.VirtualAddresses = v1alpha1.VirtualAddresses{Mode: v1alpha1.VRRP, VRRP: &v1alpha1.VRRPSettings{Interface: "eth0", VirtualRouterID: 51}}
		}, func(i int) translate.Service {
			a := netip.MustParseAddr("2001:db8::").As16()
			a[13], a[14], a[15] = 1+byte(i>>16), byte(i>>8), byte(i)
			return at(netip.AddrFrom16(a), ports(hostile(i), 1))
		}),
	} {
		t.Run(name, func(t *testing.T) {
			neighbour := func(version string, n int) translate.Service {
				s := at(netip.MustParseAddr("192.0.2.9"), ports(builder.Service("neighbour", "web"), n))
				s.Object.UID, s.Object.ResourceVersion, s.Object.CreationTimestamp = "uid-web", version, metav1.Unix(1<<40, 0)
				return s
			}
			alone := len(c.in.Services)
			c.in.Services = append(c.in.Services, neighbour("1", 1))
			if s := c.deliver(t, "web"); s == nil || len(s.Frontends) != 1 {
				t.Errorf("the neighbour has come, and the host has %+v", s)
			}
			c.in.Services[alone] = neighbour("2", 2)
			if s := c.deliver(t, "web"); s == nil || len(s.Frontends) != 2 {
				t.Errorf("the neighbour has changed, and the host has %+v", s)
			}
			c.in.Services = c.in.Services[:alone]
			if s := c.deliver(t, "web"); s != nil {
				t.Errorf("the neighbour has gone, and the host has %+v", s)
			}
			carried := slices.Collect(maps.Values(c.model.wanted.parts))
			if len(carried) < alone/4 {
				t.Errorf("of %d Services there are %d items only", alone, len(carried))
			}
		})
	}
}
