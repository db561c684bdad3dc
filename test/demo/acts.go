package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/cluster"
	"github.com/external-lb/external-lb/test/lab"
	"github.com/external-lb/external-lb/test/wait"
)

type demo struct {
	*lab.Lab
	binary  string
	nodes   int
	address string
}

const pool = `apiVersion: external-lb.dev/v1alpha1
kind: AddressPool
metadata:
  name: public
spec:
  balancer: edge
  addresses: [203.0.113.0/28]
`

const service = `apiVersion: v1
kind: Service
metadata:
  name: web
spec:
  type: LoadBalancer
  loadBalancerClass: external-lb.dev/edge
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: 8080}]
`

const unsatisfiable = `apiVersion: v1
kind: Service
metadata:
  name: wishful
  annotations:
    external-lb.dev/addresses: 198.51.100.7
spec:
  type: LoadBalancer
  loadBalancerClass: external-lb.dev/edge
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: 8080}]
`

func (d *demo) deploy(ctx context.Context) error {
	title("Pods, as a Deployment would place them")
	for i := range d.nodes {
		if _, err := d.AddPod(ctx, webPod(i+1)); err != nil {
			return err
		}
	}
	return d.show(ctx, "get", "pods", "-o", "wide")
}

func (d *demo) expose(ctx context.Context) error {
	title("A pool of addresses, and a Service of type LoadBalancer")
	block(pool + "---\n" + service)
	command("kubectl apply -f pool.yaml -f web.yaml")
	began := time.Now()
	if _, err := d.KubectlInput(ctx, pool+"---\n"+service, "apply", "-f", "-"); err != nil {
		return err
	}
	err := wait.Precisely(ctx, "the Service has an address", func() (bool, error) {
		var svc corev1.Service
		if err := d.Kube.Get(ctx, client.ObjectKey{Namespace: "default", Name: "web"}, &svc); err != nil {
			return false, err
		}
		if len(svc.Status.LoadBalancer.Ingress) == 0 {
			return false, nil
		}
		d.address = svc.Status.LoadBalancer.Ingress[0].IP
		return true, nil
	})
	if err != nil {
		return err
	}
	good("%s after %s: proved to be live on the balancer before it was published", d.address, time.Since(began).Round(time.Millisecond))
	if err := d.show(ctx, "get", "balancers,pools,services"); err != nil {
		return err
	}
	return d.show(ctx, "events", "--for", "service/web")
}

// get asks the Service once.
func (d *demo) get(ctx context.Context) (cluster.Answer, error) {
	return get(ctx, d.Cluster, d.address)
}

func (d *demo) ask(ctx context.Context) error {
	title("Requests from a client's machine, through the balancer")
	return askSome(ctx, d.get, d.address)
}

// loseNode drains a node as an operator would, then takes it away, under load.
func (d *demo) loseNode(ctx context.Context) error {
	last := fmt.Sprintf("node%d", d.nodes)
	title("%s goes away, under load", last)
	load := startLoad(ctx, d.get)
	if err := load.reach(ctx, 200); err != nil {
		return err
	}
	steps := []struct {
		line string
		do   func() error
	}{
		{"kubectl label node " + last + " " + corev1.LabelNodeExcludeBalancers + "=", func() error {
			if _, err := d.Kubectl(ctx, "label", "node", last, corev1.LabelNodeExcludeBalancers+"="); err != nil {
				return err
			}
			return wait.UntilTrue(ctx, "the balancer carries one node less", func() (bool, error) {
				var b v1alpha1.Balancer
				err := d.Kube.Get(ctx, client.ObjectKey{Name: "edge"}, &b)
				inSync := len(b.Status.Hosts) > 0 && b.Status.Hosts[0].State == v1alpha1.HostInSync
				return inSync && int(b.Status.Nodes) == d.nodes-1, err
			})
		}},
		{fmt.Sprintf("kubectl drain %s", last), func() error { return d.drain(ctx, load, webPod(d.nodes).Name) }},
		{"kubectl delete node " + last, func() error { return d.RemoveNode(ctx, last) }},
	}
	for _, step := range steps {
		command(step.line)
		if err := step.do(); err != nil {
			return err
		}
	}
	if err := load.reach(ctx, 400); err != nil {
		return err
	}
	if err := load.sumUp(); err != nil {
		return err
	}
	return d.show(ctx, "get", "balancers")
}

// drain lets a pod terminate, and takes it away when nobody sends to it any more and what it
// was asked is answered.
func (d *demo) drain(ctx context.Context, load *load, pod string) error {
	if err := d.TerminatePod(ctx, "default", pod); err != nil {
		return err
	}
	if err := d.forgotten(ctx, pod); err != nil {
		return err
	}
	if err := load.onTheirWayEnd(ctx); err != nil {
		return err
	}
	return d.RemovePod(ctx, "default", pod)
}

func (d *demo) refuse(ctx context.Context) error {
	title("A Service that asks for an address of nobody's")
	block(unsatisfiable)
	if _, err := d.KubectlInput(ctx, unsatisfiable, "apply", "-f", "-"); err != nil {
		return err
	}
	var out string
	err := wait.UntilTrue(ctx, "an event says why it has no address", func() (ok bool, err error) {
		out, err = d.Kubectl(ctx, "events", "--for", "service/wishful")
		return strings.Contains(out, "198.51.100.7"), err
	})
	if err != nil {
		return err
	}
	command("kubectl events --for service/wishful")
	block(out)
	if _, err := d.get(ctx); err != nil {
		return fmt.Errorf("the other Service suffered: %w", err)
	}
	good("and it cost nobody else anything: %s still answers", d.address)
	return nil
}

func (d *demo) invite(dir string) {
	title("The cluster stays up until you press Ctrl-C. In another terminal:")
	command(fmt.Sprintf(`eval "$(bin/testcluster env --dir %s)"`, dir))
	command("kubectl get balancers,pools,services")
	command("kubectl describe service web")
	command(fmt.Sprintf("bin/testcluster exec --dir %s client -- curl -s http://%s/", dir, d.address))
	command(fmt.Sprintf("bin/testcluster exec --dir %s lb1 -- external-lb host status", dir))
	command(fmt.Sprintf("bin/testcluster status --dir %s", dir))
}

func (d *demo) show(ctx context.Context, args ...string) error {
	out, err := d.Kubectl(ctx, args...)
	if err != nil {
		return err
	}
	command("kubectl " + strings.Join(args, " "))
	block(out)
	return nil
}
