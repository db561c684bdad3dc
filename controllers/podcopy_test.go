package controllers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/translate"
	"github.com/external-lb/external-lb/test/builder"
	"github.com/external-lb/external-lb/test/wait"
)

// podAPI is an API server, as far as a copy of its Pods asks it.
type podAPI struct {
	corev1client.PodInterface
	mu      sync.Mutex
	pods    []corev1.Pod
	lists   int
	down    error // of lists and watches
	refused error // of watches
	open    []*watch.FakeWatcher
}

func (a *podAPI) Pods(string) corev1client.PodInterface { return a }

func (a *podAPI) List(context.Context, metav1.ListOptions) (*corev1.PodList, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.lists++
	return &corev1.PodList{ListMeta: metav1.ListMeta{ResourceVersion: "1"}, Items: slices.Clone(a.pods)}, a.down
}

func (a *podAPI) Watch(_ context.Context, o metav1.ListOptions) (watch.Interface, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := errors.Join(a.down, a.refused); err != nil {
		return nil, err
	}
	if o.SendInitialEvents != nil {
		return nil, apierrors.NewBadRequest("it lists by lists only")
	}
	w := watch.NewFakeWithChanSize(1, false)
	a.open = append(a.open, w)
	return w, nil
}

// end all watches: they have missed something.
func (a *podAPI) end() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, w := range a.open {
		w.Error(&apierrors.NewResourceExpired("too old").ErrStatus)
	}
	a.open = nil
}

func (a *podAPI) set(change func(*podAPI)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	change(a)
}

func (a *podAPI) listed() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.lists
}

// copied begins to read its Pods.
func (a *podAPI) copied(t *testing.T) *pods {
	p := &pods{client: a, changed: func(string, string) {}, readable: func() {}}
	go func() { _ = p.Start(t.Context()) }() // it ends with the test
	p.want(true)
	return p
}

// Who may list and not watch reads nothing. It is told soon, and the API server is asked ever more rarely.
func TestPods_ThatCannotBeWatchedAreNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := &podAPI{refused: errors.New("no watches here")}
		p := api.copied(t)
		for second := range 600 {
			time.Sleep(time.Second) // of the bubble
			if c, why, soon := p.read(); c != nil || second > 10 && (soon || why != "no watches here") {
				t.Fatalf("after %d s: %v, %q, %t", second, c, why, soon)
			}
		}
		if lists := api.listed(); lists > 30 {
			t.Errorf("%d lists in 10 minutes", lists)
		}
		api.set(func(a *podAPI) { a.refused = nil })
		time.Sleep(longestPause + patience)
		if c, why, _ := p.read(); c == nil {
			t.Errorf("they can be watched now, and are not read: %s", why)
		}
	})
}

// A copy that lives for a while is followed at once by another, and that is not told; one of many that do not, later and later.
func TestPods_ThatAreLostSoonAreReadEverMoreRarely(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := &podAPI{}
		p := api.copied(t)
		told := false
		for range 600 {
			time.Sleep(time.Second) // of the bubble
			api.end()
			_, why, soon := p.read()
			told = told || why != "" && !soon
		}
		if lists := api.listed(); lists > 40 || !told {
			t.Errorf("%d lists in 10 minutes; told: %t", lists, told)
		}
		time.Sleep(2 * longLife)
		for range 3 {
			if c, why, _ := p.read(); c == nil {
				t.Fatalf("they are not read: %s", why)
			}
			api.set(func(a *podAPI) { a.down = errors.New("away") })
			api.end()
			time.Sleep(patience / 2)
			if c, why, soon := p.read(); c != nil || !soon {
				t.Errorf("not known for some seconds: %v, %q, %t", c, why, soon)
			}
			api.set(func(a *podAPI) { a.down = nil })
			time.Sleep(2 * longLife)
		}
	})
}

// hooked calls somebody before each look-up.
type hooked struct {
	toolscache.Indexer
	before func()
}

func (h hooked) ByIndex(index, key string) ([]any, error) {
	h.before()
	return h.Indexer.ByIndex(index, key)
}

// A copy that is lost while the Pods of Services are looked up makes no Service's pods go.
func TestPods_OfALostCopyAreNotGone(t *testing.T) {
	place := newOnePlace(t, 2, 1)
	api := &podAPI{}
	s := &scope{memory: &memory{}, balancer: builder.Balancer("edge").With(func(b *v1alpha1.Balancer) { b.Spec.Nodes.Backends = v1alpha1.BackendsPods }).Obj()}
	for i, address := range []string{"10.244.0.1", "10.244.0.2"} {
		svc := place.service(i)
		s.objects.Services = append(s.objects.Services, svc)
		pod := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: svc.Namespace, Name: svc.Name}}
		pod.Status.PodIPs = []corev1.PodIP{{IP: address}}
		api.pods = append(api.pods, pod)
		place.put(builder.EndpointSlice(svc.Namespace, svc.Name, discoveryv1.AddressTypeIPv4).Label(discoveryv1.LabelServiceName, svc.Name).
			Port("p80", 8080).Pod(svc.Name, address).Obj())
	}
	s.objects.Objects.Balancers = []*v1alpha1.Balancer{s.balancer}
	r := place.r
	r.reader.pods = api.copied(t)
	whole := func() bool { c, _, _ := r.reader.pods.read(); return c != nil }
	wait.True(t, "the Pods are read", whole)
	if err := r.readEndpoints(s); err != nil {
		t.Fatal(err)
	}
	known := maps.Clone(s.memory.endpoints)
	for name, e := range known {
		if e.Same(&translate.Endpoints{}) {
			t.Fatalf("%s has no endpoints", name)
		}
	}

	looked, slices := 0, r.reader.stores.slices
	r.reader.stores.slices = hooked{slices, func() {
		if looked++; looked == 2 {
			api.set(func(a *podAPI) { a.down = errors.New("away") })
			_ = r.reader.pods.failed(r.reader.pods.copy, api.down) // as its watch says
		}
	}}
	if err := r.readEndpoints(s); !errors.Is(err, errSoon) || looked != 2 {
		t.Errorf("after %d look-ups: %v", looked, err)
	}
	if !maps.Equal(s.memory.endpoints, known) {
		t.Errorf("known of endpoints: %v, was %v", s.memory.endpoints, known)
	}
	api.set(func(a *podAPI) { a.down = nil })
	wait.True(t, "the Pods are read again", whole)
	if err := r.readEndpoints(s); err != nil || !maps.EqualFunc(s.memory.endpoints, known, (*translate.Endpoints).Same) {
		t.Errorf("%v: %v, was %v", err, s.memory.endpoints, known)
	}
}

// counting is a queue that counts what is added to it.
type counting struct {
	queue
	added map[reconcile.Request]int
}

func (c counting) AddAfter(r reconcile.Request, _ time.Duration) { c.added[r]++ }

// A change of a Pod is looked at once for each Service, in however many slices it is.
func TestPods_TouchAServiceOnce(t *testing.T) {
	place := newOnePlace(t, 3, 1)
	place.put(builder.Balancer("edge").Hosts(local("lb1")).With(func(b *v1alpha1.Balancer) {
		b.Finalizers, b.Spec.Nodes.Backends = []string{v1alpha1.CleanupFinalizer}, v1alpha1.BackendsPods
	}).Obj())
	slice := func(name, service, pod string) {
		place.put(builder.EndpointSlice("default", name, discoveryv1.AddressTypeIPv4).Label(discoveryv1.LabelServiceName, service).
			Port("p80", 8080).Pod(pod, "10.244.0.1").Obj())
	}
	slice("before", "service-0", "web") // there before somebody asks for Pods
	place.reconcile()
	for _, name := range []string{"a", "b", "c"} {
		slice(name, "service-0", "web")
	}
	slice("d", "service-1", "web")
	slice("e", "service-2", "other")
	q := counting{added: map[reconcile.Request]int{}}
	changes := &podChanges{place.r.pace, concerns{place.r.reader}, &hostChanges{causes: place.causes, queue: q}}
	place.causes.news("edge", place.r.patch.written)
	changes.changed("default", "web")
	why, _ := place.causes.news("edge", place.r.patch.written)
	if why == nil || len(why.services) != 2 || q.added[request("edge")] != 2 {
		t.Errorf("touched: %+v, %v", why, q.added)
	}
	clear(q.added)
	changes.changed("other", "web")
	changes.changed("default", "nobody")
	if len(q.added) > 0 {
		t.Errorf("for a Pod that is no endpoint: %v", q.added)
	}
}

// listing counts what is listed.
type listing struct {
	client.Reader
	lists int
}

func (l *listing) List(ctx context.Context, list client.ObjectList, opts ...client.ListOption) error {
	l.lists++
	return l.Reader.List(ctx, list, opts...)
}

// Who may serve is read once for each event, however many Services a Pod is behind, and not at all
// for a Service that is nobody's.
func TestPods_WhoMayServeIsReadOnceForAnEvent(t *testing.T) {
	const services = 100
	place := newOnePlace(t, services, 1)
	place.put(builder.Balancer("edge").Hosts(local("lb1")).With(func(b *v1alpha1.Balancer) {
		b.Finalizers, b.Spec.Nodes.Backends = []string{v1alpha1.CleanupFinalizer}, v1alpha1.BackendsPods
	}).Obj())
	slice := func(service string) *discoveryv1.EndpointSlice {
		return builder.EndpointSlice("default", service, discoveryv1.AddressTypeIPv4).Label(discoveryv1.LabelServiceName, service).
			Port("p80", 8080).Pod("web", "10.244.0.1").Obj()
	}
	for i := range services {
		place.put(slice(fmt.Sprintf("service-%d", i)))
	}
	place.put(builder.Service("default", "nobodys").With(func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeClusterIP }).Obj())
	place.reconcile()
	q := counting{added: map[reconcile.Request]int{}}
	counted := place.r.reader
	lists := &listing{Reader: counted.Reader}
	counted.Reader = lists
	changes := &podChanges{place.r.pace, concerns{counted}, &hostChanges{causes: place.causes, queue: q}}
	if changes.changed("default", "web"); q.added[request("edge")] != services || lists.lists != 2 {
		t.Errorf("a Pod: %d lists, touched %v", lists.lists, q.added)
	}
	lists.lists = 0
	h := place.r.pace.watchSlices(concerns{counted})
	if h.Create(t.Context(), event.CreateEvent{Object: slice("service-0")}, q); lists.lists != 2 {
		t.Errorf("an EndpointSlice: %d lists", lists.lists)
	}
	lists.lists = 0
	if h.Create(t.Context(), event.CreateEvent{Object: slice("nobodys")}, q); lists.lists > 0 {
		t.Errorf("one of nobody's: %d lists", lists.lists)
	}
}

// podReads counts what is read of Pods on the way to an API server.
type podReads struct {
	http.RoundTripper
	open atomic.Int64 // answers that have not ended
}

func (o *podReads) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := o.RoundTripper.RoundTrip(r)
	if err == nil && r.URL.Path == "/api/v1/pods" {
		o.open.Add(1)
		answer.Body = &ended{answer.Body, sync.OnceFunc(func() { o.open.Add(-1) })}
	}
	return answer, err
}

type ended struct {
	io.ReadCloser
	tell func()
}

func (e *ended) Close() error {
	e.tell()
	return e.ReadCloser.Close()
}

// On a real API server: once the last Balancer that sends to pods is gone, nobody reads Pods.
func TestPods_AreReadAsLongAsSomebodySendsToThem(t *testing.T) {
	w := newWorld(t)
	w.stop()
	reads := &podReads{}
	w.api = rest.CopyConfig(api)
	w.api.Wrap(func(rt http.RoundTripper) http.RoundTripper { reads.RoundTripper = rt; return reads })
	w.start()
	w.change(func(b *v1alpha1.Balancer) { b.Spec.Nodes.Backends = v1alpha1.BackendsPods })
	w.accepted(v1alpha1.ReasonAccepted)
	wait.True(t, "Pods are read", func() bool { return reads.open.Load() > 0 })
	w.check(kube.Delete(t.Context(), w.look(t.Context())))
	wait.True(t, "nobody reads Pods", func() bool { return reads.open.Load() == 0 })
}

// An endpoint that is a Pod is found in what the cache keeps of its EndpointSlice.
func TestCacheKeepsEndpointsThatArePods(t *testing.T) {
	slice := builder.EndpointSlice("default", "web", discoveryv1.AddressTypeIPv4).Label(discoveryv1.LabelServiceName, "web").
		Port("http", 8080).Pod("web-1", "10.244.0.1").Obj()
	web := &corev1.Pod{Status: corev1.PodStatus{PodIPs: []corev1.PodIP{{IP: "10.244.0.1"}}}}
	ports := []corev1.ServicePort{{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80}}
	pod := func(name string) *translate.Pod {
		return map[string]*translate.Pod{"web-1": translate.ReadPod(web)}[name]
	}
	want := translate.ReadEndpoints(ports, []*discoveryv1.EndpointSlice{slice.DeepCopy()}, pod)
	kept, err := stripped(slice)
	if err != nil {
		t.Fatal(err)
	}
	got := translate.ReadEndpoints(ports, []*discoveryv1.EndpointSlice{kept.(*discoveryv1.EndpointSlice)}, pod)
	if want.Same(&translate.Endpoints{}) || !got.Same(want) {
		t.Errorf("found %+v, want %+v", got, want)
	}
	if names := podsOf(slice); !slices.Equal(names, []string{"default/web-1"}) {
		t.Errorf("it names %q", names)
	}
}
