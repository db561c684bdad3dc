package main

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/cluster"
	"github.com/external-lb/external-lb/test/wait"
)

const cordonedDrain = `{"spec":{"nodes":{"cordoned":"Drain"}}}`

// upgradeNodes upgrades each node as an operator would, while clients ask all the time.
func (d *demo) upgradeNodes(ctx context.Context) error {
	title("Each node is upgraded, one after the other, under load")
	command("kubectl patch balancer edge --type merge --patch '" + cordonedDrain + "'")
	if _, err := d.Kubectl(ctx, "patch", "balancer", "edge", "--type", "merge", "--patch", cordonedDrain); err != nil {
		return err
	}
	load := startLoad(ctx, d.get)
	if err := load.reach(ctx, 100); err != nil {
		return err
	}
	for i := range d.nodes {
		if err := d.upgrade(ctx, load, i+1); err != nil {
			return err
		}
	}
	return load.sumUp()
}

// upgrade the i-th node, which has one pod.
func (d *demo) upgrade(ctx context.Context, load *load, i int) error {
	node, pod := fmt.Sprintf("node%d", i), webPod(i)
	steps := []struct {
		line string
		do   func() error
	}{
		{"kubectl cordon " + node, func() error { return d.followed(ctx, "cordon", node) }},
		{"kubectl drain " + node + " --ignore-daemonsets", func() error { return d.drain(ctx, load, pod.Name) }},
		{"ssh " + node + " reboot", func() error { return d.reboot(ctx, load, node) }},
		{"kubectl uncordon " + node, func() error {
			if _, err := d.AddPod(ctx, pod); err != nil { // what a Deployment does about a node that is empty
				return err
			}
			return d.followed(ctx, "uncordon", node)
		}},
	}
	for _, step := range steps {
		command(step.line)
		if err := step.do(); err != nil {
			return err
		}
	}
	return nil
}

// reboot a node that gets nothing new. Requests that are on their way through it have time to end.
func (d *demo) reboot(ctx context.Context, load *load, node string) error {
	if err := load.onTheirWayEnd(ctx); err != nil {
		return err
	}
	if err := d.NodeDown(ctx, node); err != nil {
		return err
	}
	if err := load.reach(ctx, 8*clients); err != nil {
		return err
	}
	return d.NodeUp(ctx, node)
}

// followed runs a command of kubectl's for a node, and waits until each host does as it says.
func (d *demo) followed(ctx context.Context, verb, node string) error {
	before := map[string]string{}
	inSync := func(changed bool) (bool, error) {
		var b v1alpha1.Balancer
		if err := d.Kube.Get(ctx, client.ObjectKey{Name: "edge"}, &b); err != nil {
			return false, err
		}
		for _, h := range b.Status.Hosts {
			if h.State != v1alpha1.HostInSync || changed && h.Digest == before[h.Name] {
				return false, nil
			}
		}
		for _, h := range b.Status.Hosts {
			before[h.Name] = h.Digest
		}
		return len(b.Status.Hosts) == len(b.Spec.Hosts), nil
	}
	if err := wait.UntilTrue(ctx, "all hosts are in sync", func() (bool, error) { return inSync(false) }); err != nil {
		return err
	}
	if _, err := d.Kubectl(ctx, verb, node); err != nil {
		return err
	}
	return wait.UntilTrue(ctx, fmt.Sprintf("all hosts have followed the %s of %s", verb, node), func() (bool, error) { return inSync(true) })
}

// webPod is the i-th, on the i-th node.
func webPod(i int) cluster.PodSpec {
	return cluster.PodSpec{Name: fmt.Sprintf("web-%d", i), Node: fmt.Sprintf("node%d", i), Labels: map[string]string{"app": "web"}}
}

// forgotten waits until no kube-proxy sends anybody to a pod. Real pods sleep before they end,
// in the hope that it is so by then.
func (d *demo) forgotten(ctx context.Context, pod string) error {
	for _, node := range d.Nodes() {
		err := wait.Until(ctx, func(ctx context.Context) error {
			rules, err := d.Exec(ctx, node, "nft", "list", "ruleset")
			if err != nil {
				return err
			}
			for _, at := range d.Addrs("default/" + pod) {
				if strings.Contains(rules, "dnat to "+netip.AddrPortFrom(at, 8080).String()) {
					return fmt.Errorf("%s sends requests to %s", node, pod)
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
