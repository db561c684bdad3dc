package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/builder"
	"github.com/external-lb/external-lb/test/lab"
	"github.com/external-lb/external-lb/test/wait"
)

const (
	namespace = "default"
	class     = "external-lb.dev/edge"
	timeout   = 2 * time.Minute
)

type bench struct {
	*lab.Lab
	options options
	daemon  daemon
	results []Result
}

func name(i int) string { return fmt.Sprintf("bench-%04d", i) }

func service(name string) *corev1.Service {
	return builder.Service(namespace, name).Label("bench", "").Class(class).App("bench").PortOf(corev1.ProtocolTCP, 80, 0).Manifest()
}

// kube is a client without throttling: the load is not what is measured.
func (b *bench) kube() (kubernetes.Interface, error) {
	config := b.RESTConfig()
	config.QPS = -1
	return kubernetes.NewForConfig(config)
}

// published watches Services and notes when each got its address.
type published struct {
	mu   sync.Mutex
	at   map[string]time.Time
	stop func()
}

func (b *bench) watchPublished(ctx context.Context) (*published, error) {
	kube, err := b.kube()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	factory := informers.NewSharedInformerFactoryWithOptions(kube, 0, informers.WithNamespace(namespace))
	informer := factory.Core().V1().Services().Informer()
	p := &published{at: map[string]time.Time{}, stop: cancel}
	_, err = informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		// What is published before we look is not what is measured.
		UpdateFunc: func(_, obj any) { p.note(obj.(*corev1.Service)) },
	})
	if err != nil {
		cancel()
		return nil, err
	}
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	return p, nil
}

func (p *published) note(svc *corev1.Service) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, seen := p.at[svc.Name]; !seen && len(svc.Status.LoadBalancer.Ingress) > 0 {
		p.at[svc.Name] = time.Now()
	}
}

func (p *published) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.at)
}

func (p *published) has(name string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok := p.at[name]
	return ok
}

// create makes the Services by parallel creators and notes when each was there.
func (b *bench) create(ctx context.Context) (map[string]time.Time, error) {
	kube, err := b.kube()
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	created, errs := map[string]time.Time{}, []error(nil)
	todo := make(chan int)
	began := time.Now()
	defer func() { fmt.Fprintf(os.Stderr, "created %d Services in %.2f s\n", b.options.services, since(began)) }()
	var creators sync.WaitGroup
	for range b.options.creators {
		creators.Go(func() {
			for i := range todo {
				_, err := kube.CoreV1().Services(namespace).Create(ctx, service(name(i)), metav1.CreateOptions{})
				mu.Lock()
				created[name(i)] = time.Now()
				if err != nil {
					errs = append(errs, err)
				}
				mu.Unlock()
			}
		})
	}
	for i := range b.options.services {
		todo <- i
	}
	close(todo)
	creators.Wait()
	return created, errors.Join(errs...)
}

// storm: all Services at once.
func (b *bench) storm(ctx context.Context) (Result, error) {
	r := Result{Name: fmt.Sprintf("%d Services by %d creators", b.options.services, b.options.creators)}
	before, err := b.counters(ctx)
	if err != nil {
		return r, err
	}
	seen, err := b.watchPublished(ctx)
	if err != nil {
		return r, err
	}
	defer seen.stop()
	began := time.Now()
	created, err := b.create(ctx)
	if err != nil {
		return r, err
	}
	err = wait.Precisely(ctx, "all are published", func() (bool, error) { return seen.count() == b.options.services, nil })
	if err != nil {
		return r, err
	}
	r.Total = since(began)
	var times []float64
	for name, at := range created {
		times = append(times, seen.at[name].Sub(at).Seconds())
	}
	slices.Sort(times)
	r.P50, r.P99 = times[len(times)/2], times[len(times)*99/100]
	return r, b.account(ctx, &r, before, float64(b.options.services))
}

// restart: everything is assigned already.
func (b *bench) restart(ctx context.Context) (Result, error) {
	r := Result{Name: fmt.Sprintf("restart with %d assigned", b.options.services)}
	if err := b.Manager.Stop(); err != nil {
		return r, err
	}
	began := time.Now()
	if err := b.StartManager(ctx); err != nil {
		return r, err
	}
	err := wait.Precisely(ctx, "the Balancer was reconciled", func() (bool, error) {
		c, err := b.counters(ctx)
		return c.services == float64(b.options.services) && c.inSync == 1, err
	})
	r.Total = since(began)
	if err != nil {
		return r, err
	}
	return r, b.account(ctx, &r, counters{}, 0)
}

// coldStart: all Services wait when the manager starts.
func (b *bench) coldStart(ctx context.Context) (Result, error) {
	r := Result{Name: fmt.Sprintf("cold start on %d pending", b.options.services)}
	if err := b.deleteAll(ctx); err != nil {
		return r, err
	}
	if err := b.Manager.Stop(); err != nil {
		return r, err
	}
	if _, err := b.create(ctx); err != nil {
		return r, err
	}
	seen, err := b.watchPublished(ctx)
	if err != nil {
		return r, err
	}
	defer seen.stop()
	began := time.Now()
	if err := b.StartManager(ctx); err != nil {
		return r, err
	}
	err = wait.Precisely(ctx, "all are published", func() (bool, error) { return seen.count() == b.options.services, nil })
	if err != nil {
		return r, err
	}
	r.Total = since(began)
	return r, b.account(ctx, &r, counters{}, float64(b.options.services))
}

func (b *bench) deleteAll(ctx context.Context) error {
	_, err := b.Kubectl(ctx, "delete", "services", "-l", "bench", "-n", namespace, "--wait=false")
	if err != nil {
		return err
	}
	return wait.Precisely(ctx, "all Services are withdrawn", func() (bool, error) {
		var list corev1.ServiceList
		err := b.Kube.List(ctx, &list, client.InNamespace(namespace), client.HasLabels{"bench"})
		return len(list.Items) == 0, err
	})
}

// oneMore: one Service among many, on many nodes.
func (b *bench) oneMore(ctx context.Context) (Result, error) {
	r := Result{Name: fmt.Sprintf("one Service more, among %d x %d nodes", b.options.services, b.options.nodes)}
	if err := b.addNodes(ctx); err != nil {
		return r, err
	}
	before, err := b.counters(ctx)
	if err != nil {
		return r, err
	}
	seen, err := b.watchPublished(ctx)
	if err != nil {
		return r, err
	}
	defer seen.stop()
	began := time.Now()
	if err := b.Kube.Create(ctx, service("one-more")); err != nil {
		return r, err
	}
	if err := wait.Precisely(ctx, "it is published", func() (bool, error) { return seen.has("one-more"), nil }); err != nil {
		return r, err
	}
	r.Total = since(began)
	return r, b.account(ctx, &r, before, 1)
}

func nodeName(i int) string { return fmt.Sprintf("bench-node-%d", i) }

// addNodes makes Node objects: what the balancer sees of a node.
func (b *bench) addNodes(ctx context.Context) error {
	for i := len(b.Nodes()); i < b.options.nodes; i++ {
		node := builder.Node(nodeName(i)).Manifest()
		if err := b.Kube.Create(ctx, node); err != nil {
			return err
		}
		bare := node.DeepCopy()
		node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: fmt.Sprintf("10.99.%d.%d", i/250, 1+i%250)}}
		if err := b.Kube.Status().Patch(ctx, node, client.MergeFrom(bare)); err != nil {
			return err
		}
	}
	return b.inSync(ctx, b.options.nodes)
}

// inSync waits until the host proved the configuration with so many nodes.
func (b *bench) inSync(ctx context.Context, nodes int) error {
	return wait.Precisely(ctx, fmt.Sprintf("%d nodes are live", nodes), func() (bool, error) {
		var bal v1alpha1.Balancer
		err := b.Kube.Get(ctx, client.ObjectKey{Name: "edge"}, &bal)
		return err == nil && int(bal.Status.Nodes) == nodes && len(bal.Status.Hosts) == 1 &&
			bal.Status.Hosts[0].State == v1alpha1.HostInSync && bal.Status.Hosts[0].Digest == bal.Status.Hosts[0].DesiredDigest, err
	})
}

// nodeRemoved: every Service changes.
func (b *bench) nodeRemoved(ctx context.Context) (Result, error) {
	r := Result{Name: fmt.Sprintf("a node removed, among %d x %d nodes", b.options.services, b.options.nodes)}
	before, err := b.counters(ctx)
	if err != nil {
		return r, err
	}
	began := time.Now()
	if err := b.Kube.Delete(ctx, builder.Node(nodeName(b.options.nodes-1)).Manifest()); err != nil {
		return r, err
	}
	if err := b.inSync(ctx, b.options.nodes-1); err != nil {
		return r, err
	}
	r.Total = since(began)
	return r, b.account(ctx, &r, before, 0)
}
