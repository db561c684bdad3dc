package page

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/record"
	"github.com/external-lb/external-lb/test/builder"
)

var noon = metav1.NewTime(time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC))

func condition(kind string, status metav1.ConditionStatus, reason, message string) metav1.Condition {
	return metav1.Condition{Type: kind, Status: status, Reason: reason, Message: message, LastTransitionTime: noon}
}

// edge has a host that is in order, one that is not, and one of which nothing is known.
func edge() *v1alpha1.Balancer {
	hosts := []v1alpha1.Host{{Name: "lb1", Address: "192.0.2.5"}, {Name: "lb2", Address: "192.0.2.6", Drain: true}, {Name: "lb3", Local: &v1alpha1.LocalHost{}}}
	const live = "0123456789abcdef"
	return builder.Balancer("edge").Hosts(hosts...).With(func(b *v1alpha1.Balancer) {
		b.Status.ObservedGeneration = b.Generation
		b.Status.Hosts = []v1alpha1.HostStatus{
			{Name: "lb1", State: v1alpha1.HostInSync, Digest: live, DesiredDigest: live, EngineVersion: "daemon/1", LastAppliedTime: &noon,
				Notes: []v1alpha1.HostNote{{Reason: v1alpha1.NoteClock, Message: "its clock is behind"}}},
			{Name: "lb2", State: v1alpha1.HostUnreachable, Digest: live, DesiredDigest: "fedcba9876543210", Message: "no route to host"},
		}
		b.Status.Conditions = []metav1.Condition{
			condition(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonProgrammed, "2 hosts"),
			condition(v1alpha1.ConditionStalled, metav1.ConditionFalse, v1alpha1.ReasonNotStalled, ""),
			condition(v1alpha1.ConditionDegraded, metav1.ConditionTrue, v1alpha1.ReasonHostsUnreachable, "lb2: no route to host"),
		}
	}).Obj()
}

// web is carried on an address that is published.
func web() *corev1.Service {
	svc := builder.Service("default", "web").Class("external-lb.dev/edge").App("web").Port(80).With(func(s *corev1.Service) {
		s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "203.0.113.1"}}
		s.Status.Conditions = []metav1.Condition{
			condition(v1alpha1.ConditionServiceProgrammed, metav1.ConditionTrue, v1alpha1.ReasonProgrammed, "live"),
		}
	}).Obj()
	svc.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol}
	return record.Record{Holders: []string{"edge"}, Carrier: "edge", Addresses: []netip.Addr{netip.MustParseAddr("203.0.113.1")}}.Write(svc)
}

func endpoints(nodes ...string) *discoveryv1.EndpointSlice {
	return builder.EndpointSlice("default", "web-1", discoveryv1.AddressTypeIPv4).
		Label(discoveryv1.LabelServiceName, "web").Ready(nodes...).Obj()
}

func event(of types.UID, reason, message string, count int32) *corev1.Event {
	return &corev1.Event{
		InvolvedObject: corev1.ObjectReference{UID: of}, Type: corev1.EventTypeNormal, Reason: reason, Message: message,
		LastTimestamp: metav1.NewTime(noon.Add(time.Second)), Count: count,
	}
}

func world() Objects {
	return Objects{
		Balancers: []*v1alpha1.Balancer{edge()},
		Pools:     []v1alpha1.AddressPool{*builder.AddressPool("public", "203.0.113.0/30").Obj()},
		Services:  []*corev1.Service{web()},
		Nodes:     []*corev1.Node{builder.Node("node1").IP("10.0.0.1").Obj(), builder.Node("node2").IP("10.0.0.2").NotReady().Obj()},
		Slices:    []*discoveryv1.EndpointSlice{endpoints("node1", "node2")},
		Events: []*corev1.Event{
			event("web-uid", "EnsuredLoadBalancer", "ensured", 3),
			event("other-uid", "Other", "of another", 1),
		},
	}
}

// item of a key, decoded.
func item[T any](t *testing.T, o Objects, key string) (out T) {
	t.Helper()
	items, err := Of(o)
	if err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(items, func(i Item) bool { return i.Key == key })
	if at < 0 {
		t.Fatalf("there is no %s in %v", key, items)
	}
	if err := json.Unmarshal(items[at].Data, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestAPageHasWhatIsKnown(t *testing.T) {
	const at = "2026-01-02T12:00:00Z"
	wantBalancer := Balancer{
		Name: "edge", Engine: "nginx", Class: "external-lb.dev/edge", Mode: "Static",
		Hosts: []Host{
			{Name: "lb1", Where: "192.0.2.5", State: "InSync", Health: Good, Version: "daemon/1", Digest: "0123456789ab", Applied: at,
				Notes: []Note{{v1alpha1.NoteClock, "its clock is behind"}}},
			{Name: "lb2", Where: "192.0.2.6", State: "Unreachable", Health: Bad, Digest: "0123456789ab", Desired: "fedcba987654",
				Draining: true, Message: "no route to host"},
			{Name: "lb3", Where: "the controller's machine", State: "Connecting", Health: Unknown,
				Message: "the controller has not reported on it yet"},
		},
		Problems: []string{"HostsUnreachable: lb2: no route to host"},
		Story: []Moment{
			{At: at, Source: "Degraded=True", Reason: "HostsUnreachable", Text: "lb2: no route to host", Health: Bad},
			{At: at, Source: "Ready=True", Reason: "Programmed", Text: "2 hosts", Health: Good},
			{At: at, Source: "Stalled=False", Reason: "NotStalled", Health: Unknown},
		},
	}
	if diff := cmp.Diff(wantBalancer, item[Balancer](t, world(), "balancer/edge"), cmp.AllowUnexported(Moment{})); diff != "" {
		t.Error(diff)
	}
	wantService := Service{
		Namespace: "default", Name: "web", Balancers: []string{"edge"},
		Addresses: []Address{{"203.0.113.1", true}}, Ports: []Port{{"80/TCP", 30080, ""}},
		AllNodes: true, Endpoints: 2, Health: Good,
		Story: []Moment{
			{At: "2026-01-02T12:00:01Z", Source: "Event", Reason: "EnsuredLoadBalancer", Text: "ensured", Count: 3, Health: Unknown},
			{At: at, Source: "external-lb.dev/Programmed=True", Reason: "Programmed", Text: "live", Health: Good},
		},
	}
	if diff := cmp.Diff(wantService, item[Service](t, world(), "service/default/web"), cmp.AllowUnexported(Moment{})); diff != "" {
		t.Error(diff)
	}
	wantNode := Node{
		Name: "node2", Addresses: []string{"10.0.0.2"}, Health: Bad, Message: "the node is not ready", Balancers: []string{"edge"},
	}
	if diff := cmp.Diff(wantNode, item[Node](t, world(), "node/node2")); diff != "" {
		t.Error(diff)
	}
	pool := item[Pool](t, world(), "pool/public")
	if !slices.Equal(pool.Used, []string{"203.0.113.1"}) {
		t.Errorf("in use are %v", pool.Used)
	}
	wantBlocks := []Block{{First: "203.0.113.0"}, {First: "203.0.113.1", Used: 1}, {First: "203.0.113.2"}, {First: "203.0.113.3"}}
	if diff := cmp.Diff(wantBlocks, pool.Blocks); diff != "" {
		t.Error(diff)
	}
}

func TestWhatIsWrongIsSaid(t *testing.T) {
	service := func(change func(*corev1.Service)) Objects {
		o := world()
		change(o.Services[0])
		return o
	}
	programmed := func(reason, message string) Objects {
		return service(func(s *corev1.Service) {
			s.Status.Conditions[0] = condition(v1alpha1.ConditionServiceProgrammed, metav1.ConditionFalse, reason, message)
		})
	}
	for name, test := range map[string]struct {
		of   Objects
		want []string
	}{
		"nothing":         {world(), nil},
		"a condition":     {programmed("PoolExhausted", "public is full"), []string{"PoolExhausted: public is full"}},
		"without message": {programmed("Refused", ""), []string{"Refused"}},
		"an exception": {service(func(s *corev1.Service) {
			s.Status.Conditions = append(s.Status.Conditions, condition(v1alpha1.ConditionPortsError, metav1.ConditionTrue, "Refused", "port 443"))
		}), []string{"Refused: port 443"}},
		"another's condition": {service(func(s *corev1.Service) {
			s.Status.Conditions = append(s.Status.Conditions, condition("example.com/Fancy", metav1.ConditionFalse, "No", "not fancy"))
		}), nil},
		"live, with a remark": {service(func(s *corev1.Service) {
			s.Status.Conditions[0].Reason = "PortConflict"
		}), []string{"PortConflict: live"}},
		"deleted": {service(func(s *corev1.Service) {
			s.DeletionTimestamp = &noon
		}), []string{"Deleting: waits for the hosts to confirm that they no longer carry it"}},
		"no endpoints": {service(func(s *corev1.Service) {
			s.Name = "bare"
		}), []string{"it has no endpoint that is ready: see its pods"}},
	} {
		key := "service/default/" + test.of.Services[0].Name
		got := item[Service](t, test.of, key)
		if diff := cmp.Diff(test.want, got.Problems); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if (got.Health == Bad) != (test.want != nil) {
			t.Errorf("%s: it is %s", name, got.Health)
		}
	}
}

func TestABalancerThatNobodyLooksAtIsWrong(t *testing.T) {
	for want, change := range map[string]func(*v1alpha1.Balancer){
		"the controller has not seen it yet: is it running?":                      func(b *v1alpha1.Balancer) { b.Status = v1alpha1.BalancerStatus{} },
		"the controller has not looked at its newest version yet: is it running?": func(b *v1alpha1.Balancer) { b.Generation++ },
	} {
		o := world()
		change(o.Balancers[0])
		if got := item[Balancer](t, o, "balancer/edge").Problems; !slices.Contains(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// What a policy is told about a Service is in the Service's story, and what is wrong with a
// policy is said also where there is no such Service.
func TestPoliciesAreInTheStory(t *testing.T) {
	o := world()
	told := func(service string, conditions ...metav1.Condition) v1alpha1.PolicyTargetStatus {
		return v1alpha1.PolicyTargetStatus{TargetRef: v1alpha1.PolicyTargetReference{Kind: "Service", Name: service}, Conditions: conditions}
	}
	policy := builder.UpstreamPolicy("default", "fast").For("web").Obj()
	policy.Status.Targets = []v1alpha1.PolicyTargetStatus{
		told("web", condition(v1alpha1.ConditionAccepted, metav1.ConditionTrue, "Accepted", "in force"),
			condition(v1alpha1.ConditionUnsupported, metav1.ConditionTrue, "NotOnThisEngine", "retries"),
			condition(v1alpha1.ConditionConflicted, metav1.ConditionFalse, "NoConflict", "")),
		told("missing", condition(v1alpha1.ConditionAccepted, metav1.ConditionFalse, "TargetNotFound", "there is no such Service")),
	}
	o.Policies = append(o.Policies, policy, builder.UpstreamPolicy("elsewhere", "fast").For("web").Obj())
	var got []Moment
	for _, m := range item[Service](t, o, "service/default/web").Story {
		if strings.HasPrefix(m.Source, "UpstreamPolicy ") {
			got = append(got, Moment{Source: m.Source, Text: m.Text, Health: m.Health})
		}
	}
	want := []Moment{
		{Source: "UpstreamPolicy fast Accepted=True", Text: "in force", Health: Good},
		{Source: "UpstreamPolicy fast Unsupported=True", Text: "retries", Health: Bad},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(Moment{})); diff != "" {
		t.Error(diff)
	}
	wantPolicy := Policy{"default", "fast", []string{
		"Service web: NotOnThisEngine: retries", "Service missing: TargetNotFound: there is no such Service",
	}}
	if diff := cmp.Diff(wantPolicy, item[Policy](t, o, "policy/default/fast")); diff != "" {
		t.Error(diff)
	}
}

func TestOnlyNodesWithEndpointsCarryALocalService(t *testing.T) {
	o := world()
	svc := o.Services[0]
	svc.Spec.ExternalTrafficPolicy, svc.Spec.HealthCheckNodePort = corev1.ServiceExternalTrafficPolicyLocal, 32000
	o.Slices[0] = endpoints("node2")
	if got := item[Service](t, o, "service/default/web"); got.AllNodes || !slices.Equal(got.Nodes, []string{"node2"}) {
		t.Errorf("all nodes: %t, %v", got.AllNodes, got.Nodes)
	}
}

// What a cloud gives is shown as what it is, and before that in words.
func TestAddressesThatACloudGives(t *testing.T) {
	svc := web()
	svc.Status.LoadBalancer.Ingress = nil
	svc = record.Record{Holders: []string{"edge"}, Carrier: "edge", Addresses: []netip.Addr{netip.IPv4Unspecified()}}.Write(svc)
	if got := addresses(svc); !slices.Equal(got, []Address{{"an IPv4 address of the cloud", false}}) {
		t.Errorf("%+v", got)
	}
	svc.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{Hostname: "web.example.net"}}
	if got := addresses(svc); !slices.Equal(got, []Address{{"web.example.net", true}}) {
		t.Errorf("%+v", got)
	}
}

func TestServicesOfOthersAreNotShown(t *testing.T) {
	o := world()
	o.Services = append(o.Services, builder.Service("default", "other").Class("example.com/cloud").Port(80).Obj())
	items, err := Of(o)
	if err != nil || slices.ContainsFunc(items, func(i Item) bool { return i.Key == "service/default/other" }) {
		t.Errorf("%v: %v", err, items)
	}
}

// What others write may be as large as an API server takes, and an item stays small.
func TestItemsAreBounded(t *testing.T) {
	o := world()
	svc := o.Services[0]
	long := strings.Repeat("<", 80_000) // of which JSON makes six times as much
	for i := range 5000 {
		svc.Spec.Ports = append(svc.Spec.Ports, corev1.ServicePort{Port: int32(i + 1), Protocol: corev1.ProtocolTCP})
		ingress := corev1.LoadBalancerIngress{IP: fmt.Sprintf("198.51.%d.%d", i/256, i%256)}
		svc.Status.LoadBalancer.Ingress = append(svc.Status.LoadBalancer.Ingress, ingress)
		svc.Status.Conditions = append(svc.Status.Conditions, condition(fmt.Sprint(i, long[:200]), metav1.ConditionTrue, "A", long))
		o.Events = append(o.Events, event(svc.UID, long, long, int32(i)))
	}
	b := o.Balancers[0]
	b.Status.Hosts[0].Message, b.Status.Conditions[2].Message = long, long
	o.Pools[0].Spec.Addresses = []v1alpha1.AddressRange{"10.0.0.0/8", "2001:db8::/32"}
	items, err := Of(o)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range items {
		if len(i.Data) > 256<<10 {
			t.Errorf("%s has %d bytes", i.Key, len(i.Data))
		}
	}
	if got := item[Service](t, o, "service/default/web"); !strings.Contains(got.More, "4901 ports") || len(got.Story) != maxStory {
		t.Errorf("%q is left out, %d moments are told", got.More, len(got.Story))
	}
}

// The same objects in another order are the same page: nothing is sent.
func TestAPageDoesNotDependOnOrder(t *testing.T) {
	o := world()
	for i := range 20 {
		o.Services = append(o.Services, builder.Service("default", fmt.Sprint("more-", i)).Class("external-lb.dev/edge").Port(int32(81+i)).Obj())
	}
	first, err := Of(o)
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(o.Services)
	slices.Reverse(o.Nodes)
	slices.Reverse(o.Events)
	again, err := Of(o)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first, again); diff != "" {
		t.Error(diff)
	}
}

// 2,000 Services on 100 nodes are looked at in much less than the second in which a
// change is to be seen.
func BenchmarkOf(b *testing.B) {
	o := world()
	o.Pools[0].Spec.Addresses = []v1alpha1.AddressRange{"10.0.0.0/16"}
	o.Services = nil
	for i := range 2000 {
		svc := builder.Service("default", fmt.Sprint("web-", i)).Class("external-lb.dev/edge").Port(80).Obj()
		address := netip.AddrFrom4([4]byte{10, 0, byte(i / 256), byte(i % 256)})
		o.Services = append(o.Services, record.Record{Holders: []string{"edge"}, Carrier: "edge", Addresses: []netip.Addr{address}}.Write(svc))
	}
	for i := range 100 {
		o.Nodes = append(o.Nodes, builder.Node(fmt.Sprint("more-", i)).IP(fmt.Sprint("10.1.0.", i+1)).Obj())
	}
	for b.Loop() {
		if _, err := Of(o); err != nil {
			b.Fatal(err)
		}
	}
}
