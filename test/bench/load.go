package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/test/bench/report"
	"github.com/external-lb/external-lb/test/cluster"
	"github.com/external-lb/external-lb/test/wait"
)

const (
	changes     = 50
	changesTime = 20 * time.Second
	askers      = 4
)

// load: changes come while clients ask.
func (b *bench) load(ctx context.Context) error {
	sizes := b.engine.scales.load.of(b.options)
	return b.inLab(ctx, most(sizes)+changes, b.plain(), func(ctx context.Context) error {
		address, err := b.answering(ctx)
		if err != nil {
			return err
		}
		return b.atSizes(ctx, sizes, func(s size) error {
			for range b.options.runs {
				if err := b.underLoad(ctx, s, address); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

// underLoad: a Service comes every 400 ms while clients ask another one, each time
// over a new connection.
func (b *bench) underLoad(ctx context.Context, s size, address string) error {
	if err := b.rest(ctx, s.services); err != nil {
		return err
	}
	before, err := b.usage(ctx)
	if err != nil {
		return err
	}
	w, err := b.watch(ctx)
	if err != nil {
		return err
	}
	defer w.stop()
	began := time.Now()
	clients := startLoad(func() error { return b.once(ctx, address) })
	tick := time.NewTicker(changesTime / changes)
	defer tick.Stop()
	for i := range changes {
		<-tick.C
		if err := b.Kube.Create(ctx, b.service(underLoadName(i))); err != nil {
			return err
		}
	}
	err = b.until(ctx, s.services, "all are published", func() (bool, error) { return w.published.hasAll(underLoadName, changes), nil })
	if err != nil {
		return err
	}
	total := since(began)
	if clients.stop(); clients.first != nil {
		fmt.Fprintf(os.Stderr, "a request that failed: %v\n", clients.first)
	}
	old, err := b.oldWorkers(ctx)
	if err != nil {
		return err
	}
	after, err := b.settled(ctx)
	if err != nil {
		return err
	}
	figures := cost(before, after, changes)
	figures[report.Total], figures[report.OldWorkers] = total, float64(old)
	figures[report.Requests], figures[report.Failed] = float64(clients.requests()), float64(clients.failed)
	b.samples.Add(fmt.Sprintf("%d Services more in %s", changes, changesTime), s.services, s.nodes, figures)
	return b.forgetLoad(ctx, w)
}

// forgetLoad deletes what came under load.
func (b *bench) forgetLoad(ctx context.Context, w *watcher) error {
	for i := range changes {
		if err := b.Kube.Delete(ctx, b.service(underLoadName(i))); err != nil {
			return err
		}
	}
	return b.until(ctx, changes, "all are gone", func() (bool, error) { return w.gone.hasAll(underLoadName, changes), nil })
}

func underLoadName(i int) string { return fmt.Sprintf("under-load-%d", i) }

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
	svc := b.service("asked")
	svc.Spec.Selector = map[string]string{"app": "asked"}
	svc.Spec.Ports[0].TargetPort = intstr.FromInt(8080)
	svc.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	if err := b.Kube.Create(ctx, svc); err != nil {
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

// requests without a pause, by several clients.
type requests struct {
	mu     sync.Mutex
	times  []time.Time // of answers
	failed int
	first  error // of those that failed
	ended  chan struct{}
	all    sync.WaitGroup
}

func startLoad(ask func() error) *requests {
	l := &requests{ended: make(chan struct{})}
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

func (l *requests) note(err error) {
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

func (l *requests) answers() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.times)
}

// stop waits for the requests that are on their way, and puts the answers in order.
func (l *requests) stop() {
	close(l.ended)
	l.all.Wait()
	slices.SortFunc(l.times, time.Time.Compare)
}

// requests are counted once it has stopped.
func (l *requests) requests() int { return len(l.times) + l.failed }
