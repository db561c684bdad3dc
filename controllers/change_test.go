package controllers

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/conditions"
	"github.com/external-lb/external-lb/internal/deliver"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/record"
	"github.com/external-lb/external-lb/provider"
	"github.com/external-lb/external-lb/test/builder"
)

// onePlace is a Balancer's reconciles with everything but the network: a cache that is
// filled by hand, a host that proves what it is told to, an API server that takes every write.
type onePlace struct {
	tb     testing.TB
	r      *balancerReconciler
	cache  cache.Cache
	causes *causes
	reader reader
	host   *provingHost

	mu      sync.Mutex
	version int // of the last object
	more    int // changes
	writes  int // of Services

	refuse error              // of statuses that are not of Services
	status *v1alpha1.Balancer // as it was written last
}

// BenchmarkOneChange is what one change costs among many Services, until all is told
// again: what it takes of the CPU and of memory must not depend on how many there are.
func BenchmarkOneChange(b *testing.B) {
	for _, services := range []int{1000, 5000, 10_000} {
		p := newOnePlace(b, services, 100)
		for _, c := range []struct {
			name   string
			change func(i int)
		}{
			{"nothing", func(int) {}},
			{"changed", func(i int) { p.change(i % services) }},
			{"more", func(i int) { p.put(p.service(services + i)) }},
		} {
			b.Run(fmt.Sprintf("%dx100/%s", services, c.name), func(b *testing.B) {
				b.ReportAllocs()
				p.writes = 0
				n := 0
				for b.Loop() {
					b.StopTimer()
					p.more++
					c.change(p.more)
					b.StartTimer()
					p.settle()
					n++
				}
				b.ReportMetric(float64(p.writes)/float64(n), "Service-writes/op")
			})
		}
	}
}

// settle looks at a change, and again once the host has proved it.
func (p *onePlace) settle() {
	p.reconcile()
	p.host.prove()
	p.reconcile()
}

func (p *onePlace) reconcile() {
	p.tb.Helper()
	p.r.pace.causes.must(p.host.balancer, false)
	if _, err := p.r.Reconcile(p.tb.Context(), request(p.host.balancer)); err != nil {
		p.tb.Fatal(err)
	}
}

// newOnePlace has Services with their addresses, on a Balancer with one host.
func newOnePlace(tb testing.TB, services, nodes int) *onePlace {
	p := &onePlace{tb: tb, causes: newCauses(), host: &provingHost{balancer: "edge"}}
	p.cache = p.newCache()
	seen := newWritten()
	read := p.reader
	read.written, read.pods = seen, &pods{}
	teller := newEvents(nil, Scheme())
	leads := &leader{}
	leads.term.Store(1)
	p.r = &balancerReconciler{
		client: apiStub{p: p}, reader: read, events: teller, leader: leads, fleet: p.host, metrics: newMetrics(nil), pace: &pace{causes: p.causes, last: map[string]time.Time{}},
		patch: patchServices{apiStub{p: p}, seen, newSetbacks(), teller, read},
		certs: &certificates{reader: read, content: read}, memory: map[string]*memory{}, unclaimed: map[string]map[types.UID]time.Time{},
	}
	local := v1alpha1.Host{Name: "lb1", Local: &v1alpha1.LocalHost{}}
	held := func(b *v1alpha1.Balancer) { b.Finalizers = []string{v1alpha1.CleanupFinalizer} }
	p.put(builder.Balancer("edge").Hosts(local).With(held).Obj())
	p.put(builder.AddressPool("pool", "10.0.0.0/15").Balancer("edge").Obj())
	for i := range nodes {
		p.put(builder.Node(fmt.Sprintf("node-%d", i)).IP(fmt.Sprintf("172.16.%d.%d", i/250, i%250+1)).Obj())
	}
	for i := range services {
		svc := p.service(i)
		a := fmt.Sprintf("10.0.%d.%d", i/256, i%256)
		svc = record.Record{Holders: []string{"edge"}, Carrier: "edge", Addresses: builder.Addresses(a)}.Write(svc)
		svc.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: a, IPMode: new(corev1.LoadBalancerIPModeProxy)}}
		svc.Status.Conditions = append(svc.Status.Conditions, metav1.Condition{
			Type: v1alpha1.ConditionServiceProgrammed, Status: metav1.ConditionTrue,
			Reason: v1alpha1.ReasonProgrammed, Message: conditions.ProgrammedMessage,
		})
		p.put(svc)
	}
	for range 3 { // until all is told
		p.settle()
	}
	return p
}

func (p *onePlace) service(i int) *corev1.Service {
	return builder.Service("default", fmt.Sprintf("service-%d", i)).Class("external-lb.dev/edge").
		PortOf(corev1.ProtocolTCP, 80, int32(30000+i%2000)).PortOf(corev1.ProtocolTCP, 443, int32(32000+i%700)).
		With(func(s *corev1.Service) {
			s.Spec.IPFamilies, s.CreationTimestamp = []corev1.IPFamily{corev1.IPv4Protocol}, metav1.NewTime(time.Unix(int64(i), 0))
		}).Obj()
}

// change gives a Service another nodePort.
func (p *onePlace) change(i int) {
	obj, _, err := p.reader.services.GetByKey(fmt.Sprintf("default/service-%d", i))
	if err != nil {
		p.tb.Fatal(err)
	}
	svc := obj.(*corev1.Service).DeepCopy()
	svc.Spec.Ports[0].NodePort = 30000 + (svc.Spec.Ports[0].NodePort-30000+1)%2000
	p.put(svc)
}

// put an object into the cache, as a watch does.
func (p *onePlace) put(obj client.Object) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.version++
	obj.SetResourceVersion(strconv.Itoa(p.version))
	p.causes.came(p.host.balancer, obj, false)
	informer, err := p.cache.GetInformer(p.tb.Context(), obj)
	if err != nil {
		p.tb.Fatal(err)
	}
	if err := informer.(toolscache.SharedIndexInformer).GetIndexer().Update(obj); err != nil {
		p.tb.Fatal(err)
	}
}

func (p *onePlace) wrote() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.writes++
}

// newCache knows nothing but what is put into it.
func (p *onePlace) newCache() cache.Cache {
	kinds, err := mapper(nil, nil)
	if err != nil {
		p.tb.Fatal(err)
	}
	c, err := cache.New(&rest.Config{}, cache.Options{
		Scheme: Scheme(), Mapper: kinds,
		NewInformer: func(_ toolscache.ListerWatcher, obj runtime.Object, resync time.Duration, by toolscache.Indexers) toolscache.SharedIndexInformer {
			return toolscache.NewSharedIndexInformer(emptyList{}, obj, resync, by)
		},
	})
	if err != nil {
		p.tb.Fatal(err)
	}
	for _, kind := range []client.Object{
		&v1alpha1.Balancer{}, &v1alpha1.AddressPool{},
	} {
		if _, err := c.GetInformer(p.tb.Context(), kind, cache.BlockUntilSynced(false)); err != nil {
			p.tb.Fatal(err)
		}
	}
	if p.reader, err = newReader(p.tb.Context(), c, c, nil); err != nil {
		p.tb.Fatal(err)
	}
	go func() { _ = c.Start(p.tb.Context()) }() // it ends with the test
	if !c.WaitForCacheSync(p.tb.Context()) {
		p.tb.Fatal("the cache is not filled")
	}
	return c
}

// emptyList is what an API server without objects says.
type emptyList struct{}

func (emptyList) List(metav1.ListOptions) (runtime.Object, error) {
	return &corev1.List{ListMeta: metav1.ListMeta{ResourceVersion: "1"}}, nil
}

func (emptyList) Watch(metav1.ListOptions) (watch.Interface, error) { return watch.NewFake(), nil }

// IsWatchListSemanticsUnSupported is asked by client-go.
func (emptyList) IsWatchListSemanticsUnSupported() bool { return true }

// provingHost proves what it was told last when it is told to.
type provingHost struct {
	balancer string
	wanted   *lb.Set
	proven   lb.Manifest
	live     lb.Digest
	refused  []lb.Refusal
	given    map[lb.Key][]provider.Address
}

func (h *provingHost) Set(string, []deliver.Target) {}

func (h *provingHost) Deliver(_ string, want map[string]*lb.Set, _ string) { h.wanted = want["lb1"] }

func (h *provingHost) States(string) []deliver.State {
	s := deliver.State{Host: "lb1", State: v1alpha1.HostInSync, Proven: h.proven, Live: h.live, Desired: h.wanted.Digest(), Refused: h.refused, EngineVersion: "fake/1",
		Seen: &deliver.Seen{At: time.Now()}, Given: h.given}
	if s.Live != s.Desired {
		s.State = v1alpha1.HostDelivering
	}
	return []deliver.State{s}
}

func (h *provingHost) prove() {
	if h.live == h.wanted.Digest() {
		return
	}
	h.live, h.proven = h.wanted.Digest(), h.wanted.Manifest()
}

// apiStub takes every write, and keeps those of Services.
type apiStub struct {
	client.Client
	p *onePlace
}

func (a apiStub) Patch(context.Context, client.Object, client.Patch, ...client.PatchOption) error {
	return nil
}

func (a apiStub) Status() client.SubResourceWriter { return statusStub{p: a.p} }

type statusStub struct {
	client.SubResourceWriter
	p *onePlace
}

func (s statusStub) Patch(_ context.Context, obj client.Object, patch client.Patch, _ ...client.SubResourcePatchOption) error {
	answer, ok := obj.(*corev1.Service)
	if !ok {
		if b, ok := obj.(*v1alpha1.Balancer); ok && s.p.refuse == nil {
			s.p.status = b.DeepCopy()
		}
		return s.p.refuse
	}
	s.p.wrote()
	was, _, err := s.p.reader.services.GetByKey(client.ObjectKeyFromObject(obj).String())
	if err != nil {
		return err
	}
	before, err := json.Marshal(was)
	if err != nil {
		return err
	}
	change, err := patch.Data(obj)
	if err != nil {
		return err
	}
	after, err := strategicpatch.StrategicMergePatch(before, change, corev1.Service{})
	if err != nil {
		return err
	}
	if err := json.Unmarshal(after, answer); err != nil {
		return err
	}
	now := answer.DeepCopy()
	s.p.put(now)
	answer.ResourceVersion = now.ResourceVersion
	return nil
}
