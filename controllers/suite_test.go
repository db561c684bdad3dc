package controllers

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/go-logr/logr/funcr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/deliver"
	"github.com/external-lb/external-lb/internal/host"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/test/builder"
	"github.com/external-lb/external-lb/test/cluster"
	"github.com/external-lb/external-lb/test/wait"
)

// One real API server for this package, without nodes: the hosts are fakes in
// process, so that their faults can be steered.
var (
	api  *rest.Config
	kube client.Client
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if flag.Parse(); flag.Lookup("test.run").Value.String() == "^$" {
		return m.Run() // benchmarks need no API server
	}
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "external-lb-api-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	c, err := cluster.Start(ctx, cluster.Options{Dir: filepath.Join(dir, "cluster"), ControlPlaneOnly: true, Log: os.Stderr})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer c.Stop()
	api = c.RESTConfig()
	crds := envtest.CRDInstallOptions{Paths: []string{"../config/crd/bases"}, ErrorIfPathMissing: true}
	if _, err := envtest.InstallCRDs(api, crds); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if kube, err = client.New(api, client.Options{Scheme: Scheme()}); err != nil {
		panic(err)
	}
	return m.Run()
}

// fakeHost takes every delivery, but for the faults that a test asks for.
type fakeHost struct {
	mu     sync.Mutex
	wanted *lb.Set
	live   lb.Sums
	epoch  host.Epoch
	refuse map[string]string // reason by Service name
	closed map[string]string // reason by Service name, for its listeners on closedPort
	down   bool
	status func(*host.Status) // changes what it says
	calls  int                // while it is down, each of which gets other words
}

// errDown is what a host that is down says, each time in other words.
func (h *fakeHost) errDown() error {
	h.calls++
	return fmt.Errorf("the host is down: read tcp 192.0.2.9:%d->192.0.2.5:22: connection reset by peer", 40000+h.calls)
}

// closedPort is the one that a fakeHost refuses of Services that are closed.
const closedPort = 443

func newFakeHost() *fakeHost { return &fakeHost{wanted: lb.NewSet(), live: lb.Sums{}} }

func (h *fakeHost) report() host.Report {
	return host.Report{Wanted: h.wanted.Manifest(), Live: h.live.Manifest(), Proved: true, Generation: "g", Renderer: "fake"}
}

func (h *fakeHost) Status(context.Context) (host.Status, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.down {
		return host.Status{}, h.errDown()
	}
	st := host.Status{Report: h.report(), Engine: "nginx", EngineVersion: "fake/1", Running: true, Epoch: h.epoch}
	if h.status != nil {
		h.status(&st)
	}
	return st, nil
}

func (h *fakeHost) Render(context.Context, host.Delivery) (host.Rendering, error) {
	return host.Rendering{}, nil
}

func (h *fakeHost) Apply(_ context.Context, d host.Delivery) (host.Outcome, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.down:
		return host.Outcome{}, h.errDown()
	case d.Epoch.Compare(h.epoch) <= 0:
		return host.Outcome{}, &host.Error{Code: host.CodeStaleEpoch, Message: fmt.Sprintf("has taken the newer epoch %s", h.epoch)}
	case d.Base != h.wanted.Digest():
		return host.Outcome{}, &host.Error{Code: host.CodeBaseMismatch, Message: "another base"}
	}
	h.epoch, h.wanted = d.Epoch, h.wanted.Apply(d.Change)
	h.live = lb.Sums{}
	out := host.Outcome{Reloaded: !d.Change.Empty()}
	var refused []lb.Refusal
	for item := range h.wanted.All() {
		refusals := h.refusals(item)
		refused = append(refused, refusals...)
		if !slices.ContainsFunc(refusals, lb.Refusal.OfItem) {
			h.live[item.Key] = item.Sum
		}
	}
	out.Report = h.report()
	out.Refused = refused
	return out, nil
}

func (h *fakeHost) refusals(item lb.Item) (out []lb.Refusal) {
	part, err := lb.Decode(item)
	if err != nil {
		return []lb.Refusal{{Key: item.Key, Reason: lb.RefusedInvalid, Message: err.Error()}}
	}
	svc, ok := part.(*lb.Service)
	if !ok {
		return nil
	}
	if reason := h.refuse[svc.ID.Name]; reason != "" {
		return []lb.Refusal{{Key: item.Key, Reason: lb.RefusedByEngine, Message: reason}}
	}
	for _, f := range svc.Frontends {
		if reason := h.closed[svc.ID.Name]; reason != "" && f.Listener.Port == closedPort {
			out = append(out, lb.Refusal{Key: item.Key, Listener: f.Listener, Reason: lb.RefusedNotAdmitted, Message: reason})
		}
	}
	return out
}

// taken is the epoch of the last delivery.
func (h *fakeHost) taken() host.Epoch {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.epoch
}

func (h *fakeHost) set(change func(*fakeHost)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	change(h)
}

// world is a manager at work, with one Balancer on a fake host and one pool.
type world struct {
	t         *testing.T
	host      *fakeHost
	second    *fakeHost // of a second Balancer, see partner; nil: there is none
	balancer  string
	namespace string
	api       *rest.Config // as its manager reaches it
	stop      func()
	ends      <-chan error // what the manager says when it does

	logging sync.Mutex
	ended   bool
	lines   []string // of the manager's log
}

// log writes to the test's output. A manager may have something to say when the
// test is over.
func (w *world) log(prefix, args string) {
	w.logging.Lock()
	defer w.logging.Unlock()
	w.lines = append(w.lines, args)
	if !w.ended {
		w.t.Log(prefix, args)
	}
}

// logged counts the lines of the manager's log that have some words.
func (w *world) logged(words string) (times int) {
	w.logging.Lock()
	defer w.logging.Unlock()
	for _, line := range w.lines {
		if strings.Contains(line, words) {
			times++
		}
	}
	return times
}

var worlds int

// newWorld makes a world whose Balancer has its own class and addresses. Worlds
// follow each other: one manager runs at a time.
func newWorld(t *testing.T, addresses ...v1alpha1.AddressRange) *world {
	t.Helper()
	worlds++
	w := &world{t: t, api: api, host: newFakeHost(), balancer: fmt.Sprintf("b%d", worlds)}
	if addresses == nil {
		addresses = []v1alpha1.AddressRange{v1alpha1.AddressRange(fmt.Sprintf("203.0.%d.0/24", worlds))}
	}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "world-"}}
	w.create(ns)
	w.namespace = ns.Name
	w.create(builder.Balancer(w.balancer).Hosts(local("lb1")).With(impatient).Manifest())
	w.create(builder.AddressPool(w.balancer, addresses...).Balancer(w.balancer).Manifest())
	w.create(builder.Node(w.balancer + "-node").Manifest())
	w.node(w.balancer+"-node", "10.0.0.1")
	w.start()
	t.Cleanup(w.clean)
	return w
}

// local is this machine.
func local(name string) v1alpha1.Host { return v1alpha1.Host{Name: name, Local: &v1alpha1.LocalHost{}} }

func impatient(b *v1alpha1.Balancer) { b.Spec.Reload.MinInterval = "1ms" }

// start runs a manager until stop.
func (w *world) start() {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	w.ends = done
	go func() {
		done <- Run(ctx, w.api, Options{
			Namespace:      metav1.NamespaceDefault,
			LeaderElection: true, TLSSecrets: true,
			MetricsAddress: "0", HealthAddress: "0",
			Local:  w,
			Dialer: w,
			Log:    funcr.New(w.log, funcr.Options{}),
		})
	}()
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
	})
}

// Dial connects to the second host, or to the first, which is local.
func (w *world) Dial(_ context.Context, t deliver.Target) (deliver.Conn, error) {
	if t.Host.Local != nil {
		return conn{w.host}, nil
	}
	return conn{w.second}, nil
}

type conn struct{ host.Host }

func (conn) Close() error          { return nil }
func (conn) Done() <-chan struct{} { return nil }
func (conn) Version() string       { return "fake" }
func (conn) Identity() string      { return "" }

// restart ends the manager and starts another.
func (w *world) restart() {
	w.t.Helper()
	w.stop()
	w.start()
}

// clean deletes the world while a manager still answers for it.
func (w *world) clean() {
	w.host.set(func(h *fakeHost) { h.down, h.refuse, h.closed = false, nil, nil })
	ctx := context.Background()
	w.check(kube.DeleteAllOf(ctx, &corev1.Service{}, client.InNamespace(w.namespace)))
	wait.For(w.t, func(ctx context.Context) error {
		var left corev1.ServiceList
		if err := kube.List(ctx, &left, client.InNamespace(w.namespace)); err != nil || len(left.Items) == 0 {
			return err
		}
		return fmt.Errorf("%d left", len(left.Items))
	})
	w.check(client.IgnoreNotFound(kube.Delete(ctx, builder.Balancer(w.balancer).Manifest())))
	wait.For(w.t, func(ctx context.Context) error {
		var left v1alpha1.BalancerList
		if err := kube.List(ctx, &left); err != nil || len(left.Items) == 0 {
			return err
		}
		return fmt.Errorf("%d left", len(left.Items))
	})
	w.check(kube.DeleteAllOf(ctx, &v1alpha1.AddressPool{}))
	w.check(kube.DeleteAllOf(ctx, &corev1.Node{}))
	w.check(kube.DeleteAllOf(ctx, &corev1.Secret{}, client.InNamespace(metav1.NamespaceDefault)))
	w.check(kube.Delete(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: w.namespace}}))
	w.stop()
	w.logging.Lock()
	defer w.logging.Unlock()
	w.ended = true
}

func (w *world) check(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) create(obj client.Object) {
	w.t.Helper()
	w.check(kube.Create(context.Background(), obj))
}

// node gives a node an address.
func (w *world) node(name, address string) {
	w.t.Helper()
	node := &corev1.Node{}
	w.check(kube.Get(context.Background(), client.ObjectKey{Name: name}, node))
	node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: address}}
	w.check(kube.Status().Update(context.Background(), node))
}

// service creates a Service of the world's class, with port 80.
func (w *world) service(name string, change ...func(*corev1.Service)) *corev1.Service {
	w.t.Helper()
	svc := builder.Service(w.namespace, name).Class(v1alpha1.DefaultClassPrefix+w.balancer).
		PortOf(corev1.ProtocolTCP, 80, 0).With(change...).Manifest()
	w.create(svc)
	return svc
}

// until waits for a Service to be as wanted.
func (w *world) until(svc *corev1.Service, what string, ok func(*corev1.Service) bool) *corev1.Service {
	w.t.Helper()
	fresh := &corev1.Service{}
	wait.For(w.t, func(ctx context.Context) error {
		if err := kube.Get(ctx, client.ObjectKeyFromObject(svc), fresh); err != nil {
			return err
		}
		if !ok(fresh) {
			return fmt.Errorf("not so: %s: %+v %+v", what, fresh.ObjectMeta, fresh.Status)
		}
		return nil
	})
	return fresh
}

// gone waits until there is no such object any more.
func (w *world) gone(obj client.Object) {
	w.t.Helper()
	wait.For(w.t, func(ctx context.Context) error {
		err := kube.Get(ctx, client.ObjectKeyFromObject(obj), obj.DeepCopyObject().(client.Object))
		if err == nil {
			return fmt.Errorf("%s is still there", obj.GetName())
		}
		return client.IgnoreNotFound(err)
	})
}

// published waits for a Service's address.
func (w *world) published(svc *corev1.Service) string {
	w.t.Helper()
	fresh := w.until(svc, svc.Name+" is published", func(s *corev1.Service) bool { return len(s.Status.LoadBalancer.Ingress) > 0 })
	return fresh.Status.LoadBalancer.Ingress[0].IP
}
