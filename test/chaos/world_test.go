package chaos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/builder"
	"github.com/external-lb/external-lb/test/lab"
	"github.com/external-lb/external-lb/test/wait"
)

// namespace of the apps' Services.
const namespace = "default"

// app is a Service as its user wants it. Its pods are always there, and bear its name.
type app struct {
	name      string
	wanted    bool
	exposed   bool
	port      int32
	classless bool // served since the Balancer is the default
	datagrams bool // on the same port, too
	changed   bool // its port, since it was made
}

// world is the cluster, and what a schedule has made of it.
type world struct {
	*lab.Lab
	engine v1alpha1.Engine
	apps   map[string]*app
	open   map[string][]kind // what has begun and not ended
	paused *lab.Manager      // a leader that was stopped
	starts int               // of managers
	saved  *saved            // at the last backup of the cluster
	rival  *rival            // who writes a status, too
	denied string            // the Service of which nothing can be written
	// deniedAt is how many managers had been started by then.
	deniedAt int
	last     []corev1.Service             // when the API server was asked last
	once     map[string]string            // the address of each Service that had one, by UID
	held     map[listener]map[string]bool // what was published at some time, and which hosts have answered since
	writes   *writeLog                    // of the manager
	table    *table
}

// run takes a step, and looks at what it has done.
func (w *world) run(ctx context.Context, i int, s step) error {
	began := time.Now()
	if err := w.keepManager(ctx); err != nil {
		return err
	}
	if err := w.take(ctx, s); err != nil {
		return err
	}
	if err := w.applyAll(ctx); err != nil {
		return err
	}
	if s.waits && len(w.open) == 0 && w.apps[s.about] != nil {
		if err := w.settled(ctx, w.apps[s.about]); err != nil {
			return err
		}
	}
	if err := w.look(ctx); err != nil {
		return err
	}
	took := time.Since(began)
	w.table.add(s.kind, took)
	fmt.Fprintf(os.Stderr, "%-8s%4d  %-40s %s\n", w.engine, i, s, took.Round(time.Millisecond))
	return nil
}

func (w *world) isOpen(k kind) bool {
	for _, kinds := range w.open {
		if slices.Contains(kinds, k) {
			return true
		}
	}
	return false
}

// keepManager starts a manager again that has ended by itself, as Kubernetes does. Without
// an API server none stays.
func (w *world) keepManager(ctx context.Context) error {
	if w.isOpen(outage) || alive(w.Manager) {
		return nil
	}
	w.table.restarts++
	return w.startManager(ctx)
}

func (w *world) startManager(ctx context.Context) error {
	w.starts++
	return w.StartManager(ctx)
}

func alive(m *lab.Manager) bool { return unix.Kill(m.PID(), 0) == nil }

var leading = regexp.MustCompile(`(?m)^leader_election_master_status\{.*\} 1$`)

// leads waits until the manager that was started last leads.
func (w *world) leads(ctx context.Context) error {
	return wait.Until(ctx, func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, w.Manager.Metrics, nil)
		if err != nil {
			return err
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		if err == nil && !leading.Match(text) {
			err = errors.New("the manager does not lead")
		}
		return err
	})
}

// applyAll makes the Services of all apps what they are to be, as far as that can be
// now: one that is being deleted is made anew once it has gone.
func (w *world) applyAll(ctx context.Context) error {
	if w.isOpen(outage) {
		return nil
	}
	for _, name := range sorted(w.apps) {
		if err := w.apply(ctx, w.apps[name]); err != nil {
			return fmt.Errorf("Service %s: %w", name, err)
		}
	}
	return nil
}

func (w *world) apply(ctx context.Context, a *app) error {
	return wait.Until(ctx, func(ctx context.Context) error {
		svc := &corev1.Service{}
		err := w.Kube.Get(ctx, client.ObjectKey{Namespace: namespace, Name: a.name}, svc)
		switch {
		case apierrors.IsNotFound(err) && a.wanted:
			svc = builder.Service(namespace, a.name).App(a.name).Manifest()
			a.write(svc)
			return client.IgnoreAlreadyExists(w.Kube.Create(ctx, svc))
		case err != nil:
			return client.IgnoreNotFound(err)
		case !svc.DeletionTimestamp.IsZero():
			return nil
		case !a.wanted:
			return client.IgnoreNotFound(w.Kube.Delete(ctx, svc))
		}
		before := svc.DeepCopy()
		a.write(svc)
		if before.Spec.Type == svc.Spec.Type && before.Spec.Ports[0].Port == svc.Spec.Ports[0].Port {
			return nil
		}
		return w.Kube.Update(ctx, svc)
	})
}

// write the app's wishes into its Service.
func (a *app) write(svc *corev1.Service) {
	if len(svc.Spec.Ports) == 0 {
		svc.Spec.Ports = []corev1.ServicePort{{Name: "http", Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromInt(8080)}}
	}
	if a.datagrams && len(svc.Spec.Ports) == 1 {
		port := corev1.ServicePort{Name: "datagrams", Protocol: corev1.ProtocolUDP, TargetPort: intstr.FromInt(9000)}
		svc.Spec.Ports = append(svc.Spec.Ports, port)
	}
	for i := range svc.Spec.Ports {
		svc.Spec.Ports[i].Port = a.port
	}
	svc.Spec.Type, svc.Spec.LoadBalancerClass = corev1.ServiceTypeClusterIP, nil
	if a.exposed {
		svc.Spec.Type = corev1.ServiceTypeLoadBalancer
		if class := "external-lb.dev/edge"; !a.classless {
			svc.Spec.LoadBalancerClass = &class
		}
	}
}

// explain prints what helps to see why a step has failed.
func (w *world) explain(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for _, ask := range [][]string{
		{"get", "balancers,pools,services", "-A", "-o", "wide"},
		{"get", "balancer", "edge", "-o", "jsonpath={.status}"},
		{"get", "events", "-A", "--sort-by=.lastTimestamp"},
	} {
		out, err := w.Kubectl(ctx, ask...)
		if lines := strings.Split(out, "\n"); len(lines) > 60 {
			out = strings.Join(lines[len(lines)-60:], "\n")
		}
		fmt.Fprintln(os.Stderr, out, err)
	}
	fmt.Fprintln(os.Stderr, w.Manager.Tail())
}
