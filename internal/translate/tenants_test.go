package translate

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/test/builder"
)

// tenantService is one of a namespace, with so many ports; created in that second, which others see.
func tenantService(namespace, name string, created, ports int) Service {
	b := builder.Service(namespace, name)
	for i := range ports {
		b.Port(int32(80 + i))
	}
	svc := on(b, "192.0.2.1")
	svc.Object.UID, svc.Object.ResourceVersion = types.UID(namespace+"-"+name), "1"
	svc.Object.CreationTimestamp = metav1.Unix(int64(created), 0)
	return svc
}

// publish gives a Service what says that it is carried.
func publish(s Service) Service {
	s.Object.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: s.Addresses[0].String()}}
	return s
}

// sent are the Services of a Config.
func sent(out Output) string {
	var names []string
	for _, s := range out.Config.Services {
		names = append(names, s.ID.String())
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

func unbounded() size { return size{1 << 40, 1 << 40, 1 << 40, 1 << 40} }

func TestNoRoom_TheNamespaceWithMostGivesWay(t *testing.T) {
	most := unbounded()
	most[inListeners] = 10
	in := MakeInput(
		publish(tenantService("big", "old", 1, 3)), publish(tenantService("big", "young", 9, 3)),
		tenantService("big", "waits", 2, 3), tenantService("small", "one", 20, 2), publish(tenantService("middle", "one", 3, 1)))
	remembers := within(most)
	out := remembers.Translate(in.Input)
	if got := sent(out); got != "big/old big/young middle/one small/one" {
		t.Errorf("sent %s", got)
	}
	if p := out.Services["big-waits"].Problems; len(p) != 1 || !p[0].Fatal || p[0].Reason != v1alpha1.ReasonNoRoom || !strings.Contains(p[0].Message, "98304 ports") {
		t.Errorf("told %+v", p)
	}
	for _, uid := range []types.UID{"big-old", "big-young", "small-one", "middle-one"} {
		if p := out.Services[uid].Problems; len(p) > 0 {
			t.Errorf("%s is told %+v", uid, p)
		}
	}
	before := out.Config.Services
	// A neighbour comes: who has most gives way, and who was the last to come.
	in.Services = append(in.Services, tenantService("small", "two", 21, 2))
	out = remembers.Translate(in.Input)
	if got := sent(out); got != "big/old middle/one small/one small/two" {
		t.Errorf("then sent %s", got)
	}
	if !slices.Contains(out.Config.Services, before[0]) {
		t.Error("what stays is made anew")
	}
	if again := remembers.Translate(in.Input); again.Services["big-waits"] != out.Services["big-waits"] {
		t.Error("told again though nothing has changed")
	}
	// And when there is room, it is as before.
	in.Services = slices.Delete(in.Services, 3, 4)
	if got := sent(remembers.Translate(in.Input)); got != "big/old big/young middle/one small/two" {
		t.Errorf("at last sent %s", got)
	}
}

func TestNoRoom_WhoIsSmallerStays(t *testing.T) {
	most := unbounded()
	most[inListeners] = 8
	in := MakeInput(tenantService("a", "huge", 1, 9), tenantService("a", "one", 2, 4), tenantService("a", "two", 3, 4), tenantService("b", "one", 4, 1))
	if got := sent(within(most).Translate(in.Input)); got != "a/one b/one" {
		t.Errorf("sent %s", got)
	}
}

// Each namespace counts a certificate once, however many of its Services have it.
func TestNoRoom_OfCertificates(t *testing.T) {
	in := MakeInput(tenantService("default", "a", 1, 1), tenantService("default", "b", 2, 1), tenantService("default", "c", 3, 1),
		tenantService("other", "one", 4, 1)).Policies(policy("p").For("a").For("b").TLS("cert")).
		Secrets(MakeSecret("cert", 1))
	bytes := len(in.Certificates[types.NamespacedName{Namespace: "default", Name: "cert"}].Served.PEM())
	fits := func(most size) string { return sent(within(most).Translate(in.Input)) }
	most := unbounded()
	most[inItems] = 5
	if got := fits(most); got != "default/a default/b default/c other/one" {
		t.Errorf("of 5 items: %s", got)
	}
	most[inItems] = 4
	if got := fits(most); got != "default/a default/b other/one" {
		t.Errorf("of 4 items: %s", got)
	}
	most = unbounded()
	most[inBytes] = bytes + 2000
	if got := fits(most); got != "default/a default/b default/c other/one" {
		t.Errorf("of the bytes of one certificate: %s", got)
	}
	most[inBytes] = bytes
	if got := fits(most); got != "default/c other/one" {
		t.Errorf("without the bytes of one: %s", got)
	}
}

// Where hosts bring the addresses, each is an item, too.
func TestNoRoom_OfAddresses(t *testing.T) {
	in := MakeInput(tenantService("a", "one", 1, 2), tenantService("b", "one", 1, 1))
	in.Services[0].Addresses = append(in.Services[0].Addresses, netip.MustParseAddr("2001:db8::1"))
	most := unbounded()
	most[inItems] = 4
	remembers := within(most)
	if got := sent(remembers.Translate(in.Input)); got != "a/one b/one" {
		t.Errorf("sent %s", got)
	}
	in.Spec(func(s *v1alpha1.BalancerSpec) { s.VirtualAddresses.Mode = v1alpha1.VRRP })
	if got := sent(remembers.Translate(in.Input)); got != "b/one" {
		t.Errorf("with addresses sent %s", got)
	}
}

// Pods of Services that are left out take nothing from others.
func TestNoRoom_PodsOfThoseThatAreLeftOutDoNotCount(t *testing.T) {
	in := MakeInput(crowd("a", "one", 60), crowd("a", "two", 60), crowd("b", "one", 50)).Spec(sendsToPods)
	most := unbounded()
	most[inItems] = 2
	small := within(most)
	small.mostEndpoints = 120
	if got := fmt.Sprint(carried(small.Translate(in.Input))); got != "map[a/one:60 b/one:50]" {
		t.Error(got)
	}
}

func TestNoRoom_BytesAreThoseThatAreSent(t *testing.T) {
	in := MakeInput(web(), on(service("other").Port(53).Ranges("192.0.2.0/24", "198.51.100.0/24"), "192.0.2.1", "2001:db8::1")).
		Policies(policy("p").For("web").Retries(1))
	cfg := New().Translate(in.Input).Config
	set, err := new(lb.Encoder).Encode(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range cfg.Services {
		if it, _ := set.Get(lb.ServiceKey(s.ID)); len(it.Data) != s.Bytes() || s.Bytes() == 0 {
			t.Errorf("%s has %d bytes, and is sent as %d", s.ID, s.Bytes(), len(it.Data))
		}
	}
}

func TestLevel(t *testing.T) {
	for _, tc := range []struct {
		all  []int
		most int
		want int // what all have then, the most of it that is no more
	}{{[]int{1, 2, 3}, 6, 6}, {[]int{9, 1, 9}, 11, 11}, {[]int{9, 9, 9}, 10, 9}, {[]int{5}, 3, 3}, {nil, 3, 0}, {[]int{4, 4}, 1, 0}} {
		share, got := lb.Level(tc.most, slices.Clone(tc.all)), 0
		for _, n := range tc.all {
			got += min(n, share)
		}
		if got != tc.want {
			t.Errorf("of %v at most %d: %d each, %d together, want %d", tc.all, tc.most, share, got, tc.want)
		}
	}
}
