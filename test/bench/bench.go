package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/bench/report"
	"github.com/external-lb/external-lb/test/builder"
	"github.com/external-lb/external-lb/test/cluster"
	"github.com/external-lb/external-lb/test/lab"
	"github.com/external-lb/external-lb/test/wait"
)

const (
	namespace = "default"
	balancer  = "edge"
	addresses = "10.64.0.0/16"

	// More Services than usual take more node ports than usual.
	fewServices   = 2500
	manyNodePorts = "30000-62767"
)

// bench measures one suite on one engine.
type bench struct {
	*lab.Lab
	options options
	name    string // of the engine
	engine  engine
	samples report.Samples
	leftOut []string
	cluster string // its version of Kubernetes

	other   *lab.Manager // what is measured in place of the manager
	changes float64      // of Services that we made, and that are not the controller's writes
}

// controller is the process that is measured.
func (b *bench) controller() *lab.Manager {
	if b.other != nil {
		return b.other
	}
	return b.Manager
}

// restart the controller, which has no history then.
func (b *bench) restart(ctx context.Context) error {
	if b.other != nil {
		return errors.Join(b.stopMetalLB(), b.startMetalLB(ctx))
	}
	if err := b.Manager.Stop(); err != nil {
		return err
	}
	return b.StartManager(ctx)
}

// plain is a lab with a node and a host.
func (b *bench) plain() lab.Options {
	return lab.Options{Cluster: cluster.Options{Nodes: 1, Hosts: 1}, Change: b.engine.change, Balancer: balancer}
}

// inLab measures in a lab of its own, which has room for so many Services.
func (b *bench) inLab(ctx context.Context, services int, o lab.Options, measure func(context.Context) error) (err error) {
	dir, err := os.MkdirTemp("", "external-lb-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	o.Cluster.Dir, o.Cluster.Binary, o.Cluster.Engine = filepath.Join(dir, "cluster"), b.options.binary, b.name
	o.Cluster.Pools = []string{addresses}
	if services > fewServices {
		o.Cluster.NodePorts = manyNodePorts
	}
	o.Root, o.Log = ".", os.Stderr
	if b.isMetalLB() {
		o.WithoutOperator, o.Bare, o.Cluster.Hosts, o.Cluster.Engine = true, true, 0, "none"
	}
	if b.Lab, err = lab.Start(ctx, o); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.stopMetalLB(), b.Stop()) }()
	version, err := b.Client().Discovery().ServerVersion()
	if err != nil {
		return err
	}
	b.cluster = strings.TrimPrefix(version.GitVersion, "v")
	if err := b.prepare(ctx, services); err != nil {
		return err
	}
	return measure(ctx)
}

// prepare what a lab does not have: addresses, and room on its hosts.
func (b *bench) prepare(ctx context.Context, services int) error {
	if b.isMetalLB() {
		return b.installMetalLB(ctx)
	}
	if err := b.Kube.Create(ctx, builder.AddressPool("bench", addresses).Balancer(balancer).Manifest()); err != nil {
		return err
	}
	for _, name := range b.Hosts() {
		if err := b.makeRoom(ctx, name, services); err != nil {
			return err
		}
	}
	return nil
}

// admitMore is what an owner writes who has more node ports than usual. The agent starts again by itself.
const admitMore = `
more='admit:\n  backends:\n  - networks: [0.0.0.0\/0]\n    ports: [` + manyNodePorts + `]'
sed -i "s/^admit:.*/$more/" /etc/external-lb/host.yaml
kill $(` + agents + `)`

func (b *bench) makeRoom(ctx context.Context, host string, services int) error {
	h, err := b.Host(host)
	if err != nil {
		return err
	}
	if services > fewServices {
		if _, err := h.Shell(ctx, admitMore); err != nil {
			return err
		}
	}
	if b.engine.tune == nil {
		return nil
	}
	_, err = h.Shell(ctx, b.engine.tune(services))
	return err
}

// patience with so many Services.
func patience(services int) time.Duration {
	return wait.Patience + time.Duration(services)*200*time.Millisecond
}

// until waits for what is measured.
func (b *bench) until(ctx context.Context, services int, what string, is func() (bool, error)) error {
	return wait.PreciselyWithin(ctx, patience(services), what, is)
}

func serviceName(i int) string { return fmt.Sprintf("bench-%05d", i) }

func (b *bench) service(name string) *corev1.Service {
	return builder.Service(namespace, name).Label("bench", "").Class(b.engine.class).App("bench").PortOf(corev1.ProtocolTCP, 80, 0).Manifest()
}

// kube is a client without throttling: the load is not what is measured.
func (b *bench) kube() (kubernetes.Interface, error) {
	config := b.RESTConfig()
	config.QPS = -1
	return kubernetes.NewForConfig(config)
}

// fits reports whether the daemon's memory of a size fits this machine during a reload, and notes what does not.
func (b *bench) fits(s size) (bool, error) {
	available, err := availableMemory()
	if err != nil {
		return false, err
	}
	const gigabyte = 1 << 30
	backends := s.services * s.nodes
	if b.engine.change != nil {
		backends = 0 // so few nodes for each Service that it does not matter
	}
	if need := 2 * backends * b.engine.backend; need > available*8/10 {
		b.leftOut = append(b.leftOut, fmt.Sprintf("%s: %s takes some %d GB in a reload, and %d GB are free", s, b.engine.daemon,
			need/gigabyte+1, available/gigabyte))
		return false, nil
	}
	return true, nil
}

// balancerIs waits for something that the Balancer's status says.
func (b *bench) balancerIs(ctx context.Context, services int, what string, is func(*v1alpha1.Balancer) bool) error {
	return b.until(ctx, services, what, func() (bool, error) {
		var bal v1alpha1.Balancer
		err := b.Kube.Get(ctx, client.ObjectKey{Name: balancer}, &bal)
		return err == nil && is(&bal), err
	})
}

// live reports whether every host proved what is desired, of the Balancer as it is.
func live(b *v1alpha1.Balancer) bool {
	for _, h := range b.Status.Hosts {
		if h.State != v1alpha1.HostInSync || h.Digest != h.DesiredDigest {
			return false
		}
	}
	return len(b.Status.Hosts) == len(b.Spec.Hosts) && b.Status.ObservedGeneration == b.Generation
}

// rest waits until all is live, and long enough for the next change to go at once: see spec.reload.minInterval.
func (b *bench) rest(ctx context.Context, services int) error {
	const interval = 2 * time.Second // the default is one, and times in a status are whole seconds
	return b.balancerIs(ctx, services, "all is live, and it is quiet", func(bal *v1alpha1.Balancer) bool {
		if !live(bal) {
			return false
		}
		last := bal.Status.Hosts[0].LastAppliedTime
		return last == nil || time.Since(last.Time) > interval
	})
}

// since is a stopwatch in seconds.
func since(t time.Time) float64 { return time.Since(t).Seconds() }
