package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/cluster"
	"github.com/external-lb/external-lb/test/wait"
)

const (
	changes     = 50
	changesTime = 20 * time.Second
	askers      = 4
)

// underLoad: a Service comes every 400 ms while clients ask another one, each time
// over a new connection.
func (b *bench) underLoad(ctx context.Context) (Result, error) {
	r := Result{Name: fmt.Sprintf("%d changes in %s under load", changes, changesTime)}
	address, err := b.answering(ctx)
	if err != nil {
		return r, err
	}
	before, err := b.counters(ctx)
	if err != nil {
		return r, err
	}
	began := time.Now()
	load := startLoad(func() error { return b.once(ctx, address) })
	tick := time.NewTicker(changesTime / changes)
	defer tick.Stop()
	for i := range changes {
		<-tick.C
		if err := b.Kube.Create(ctx, service(fmt.Sprintf("under-load-%d", i))); err != nil {
			return r, err
		}
	}
	if err := b.inSync(ctx, b.options.nodes-1); err != nil {
		return r, err
	}
	r.Total = since(began)
	load.stop()
	if r.Requests, r.Failed = load.requests(), load.failed; load.first != nil {
		fmt.Printf("a request that failed: %v\n", load.first)
	}
	if r.OldWorkers, err = b.oldWorkers(ctx); err != nil {
		return r, err
	}
	r.Name += fmt.Sprintf(": %d requests, %d failed; %d old workers", r.Requests, r.Failed, r.OldWorkers)
	return r, b.account(ctx, &r, before, changes)
}

// oldWorkers that still carry connections, as the host's end counts them.
func (b *bench) oldWorkers(ctx context.Context) (int, error) {
	h, err := b.Host("lb1")
	if err != nil {
		return 0, err
	}
	out, err := h.Exec(ctx, "external-lb", "host", "status", "--output", "json")
	if err != nil {
		return 0, err
	}
	var status struct{ OldWorkers int }
	err = json.Unmarshal([]byte(out), &status)
	return status.OldWorkers, err
}

// answering makes a Service with a pod, and waits until it answers. Of the nodes,
// only that of the pod carries it: the others are names.
func (b *bench) answering(ctx context.Context) (string, error) {
	pod := cluster.PodSpec{Namespace: namespace, Name: "asked", Node: "node1", Labels: map[string]string{"app": "asked"}}
	if _, err := b.AddPod(ctx, pod); err != nil {
		return "", err
	}
	svc := service("asked")
	svc.Spec.Selector = map[string]string{"app": "asked"}
	svc.Spec.Ports[0].TargetPort = intstr.FromInt(8080)
	svc.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	if err := b.Kube.Create(ctx, svc); err != nil {
		return "", err
	}
	var bal v1alpha1.Balancer
	if err := b.Kube.Get(ctx, client.ObjectKey{Name: "edge"}, &bal); err != nil {
		return "", err
	}
	address := ""
	err := wait.Precisely(ctx, "the Service that is asked answers", func() (bool, error) {
		if err := b.Kube.Get(ctx, client.ObjectKeyFromObject(svc), svc); err != nil || len(svc.Status.LoadBalancer.Ingress) == 0 {
			return false, err
		}
		address = svc.Status.LoadBalancer.Ingress[0].IP
		return true, b.once(ctx, address)
	})
	return address, err
}

func (b *bench) once(ctx context.Context, address string) error {
	httpClient := b.HTTPClientFrom("client")
	httpClient.Timeout = 10 * time.Second
	defer httpClient.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/", nil)
	if err != nil {
		return err
	}
	response, err := httpClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	return err
}

// load is requests without a pause, by several clients.
type load struct {
	mu     sync.Mutex
	times  []time.Time // of answers
	failed int
	first  error // of those that failed
	ended  chan struct{}
	all    sync.WaitGroup
}

func startLoad(ask func() error) *load {
	l := &load{ended: make(chan struct{})}
	for range askers {
		l.all.Go(func() {
			for {
				select {
				case <-l.ended:
					return
				default:
				}
				l.note(ask())
			}
		})
	}
	return l
}

func (l *load) note(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		l.times = append(l.times, time.Now())
		return
	}
	if l.failed++; l.first == nil {
		l.first = err
	}
}

func (l *load) answers() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.times)
}

// stop waits for the requests that are on their way, and puts the answers in order.
func (l *load) stop() {
	close(l.ended)
	l.all.Wait()
	slices.SortFunc(l.times, time.Time.Compare)
}

// requests are counted once it has stopped.
func (l *load) requests() int { return len(l.times) + l.failed }
