package main

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/external-lb/external-lb/test/cluster"
	"github.com/external-lb/external-lb/test/wait"
)

// first is the act before Kubernetes: the same program, on a balancer host with nginx, with manifests
// in place of an API server.
type first struct {
	*cluster.Cluster
	lb *cluster.Host
}

// Where the manifests are on the host, and what the nodes' servers listen on.
const (
	manifests = "/root/manifests"
	nodePort  = 30080
)

const firstBalancer = `apiVersion: external-lb.dev/v1alpha1
kind: Balancer
metadata: {name: edge}
spec:
  engine: nginx
  hosts: [{name: lb1, local: {}}]
`

const firstService = `apiVersion: v1
kind: Service
metadata: {name: hello}
spec:
  type: LoadBalancer
  loadBalancerClass: external-lb.dev/edge
  ports: [{port: 80, nodePort: 30080}]
`

// firstAddress is the first of the pool.
const firstAddress = "203.0.113.0"

// playFirst plays the act in a network of its own, which is gone afterwards.
func playFirst(ctx context.Context, binary, dir string) (err error) {
	title("The idea, with files instead of Kubernetes: nginx on a balancer host, three machines that serve")
	c, err := cluster.Start(ctx, cluster.Options{Dir: dir, NetworkOnly: true, Nodes: 3, Hosts: 1, Binary: binary})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Stop()) }()
	f := &first{Cluster: c}
	if f.lb, err = c.Host("lb1"); err != nil {
		return err
	}
	for _, act := range []func(context.Context) error{f.prepare, f.apply, f.ask, f.loseNode} {
		if err := act(ctx); err != nil {
			return err
		}
	}
	return nil
}

// prepare the host as its administrator would, and what a cluster would serve.
func (f *first) prepare(ctx context.Context) error {
	for _, node := range f.Nodes() {
		if err := f.Serve(ctx, node, nodePort); err != nil {
			return err
		}
		say("%s is %s; a server listens on its node port %d", node, f.Addrs(node)[0], nodePort)
	}
	return f.on(ctx, "external-lb", "host", "install")
}

// on runs a command on the host, and shows it.
func (f *first) on(ctx context.Context, argv ...string) error {
	command("ssh lb1 " + strings.Join(argv, " "))
	out, err := f.lb.Exec(ctx, argv...)
	block(out)
	return err
}

func (f *first) write(ctx context.Context, files map[string]string) error {
	for name, text := range files {
		if err := f.lb.WriteFile(ctx, path.Join(manifests, name), []byte(text)); err != nil {
			return err
		}
	}
	return nil
}

// nodes are manifests as the cluster has them.
func (f *first) nodes(names []string) string {
	var text strings.Builder
	for _, name := range names {
		fmt.Fprintf(&text, "---\napiVersion: v1\nkind: Node\nmetadata: {name: %s}\nstatus: {addresses: [{type: InternalIP, address: %s}]}\n",
			name, f.Addrs(name)[0])
	}
	return text.String()
}

func (f *first) apply(ctx context.Context) error {
	title("A Service of type LoadBalancer, as in any cluster, and the nodes: as files in %s on the host", manifests)
	files := map[string]string{
		"balancer.yaml": firstBalancer, "pool.yaml": pool, "service.yaml": firstService, "nodes.yaml": f.nodes(f.Nodes()),
	}
	if err := f.write(ctx, files); err != nil {
		return err
	}
	block(firstService + files["nodes.yaml"])
	say("its part of nginx's configuration, rendered with the address of each node:")
	if err := f.on(ctx, "external-lb", "render", "-f", manifests, "--service", "hello"); err != nil {
		return err
	}
	say("staged, checked by nginx, swapped in, reloaded, and proved by asking the nginx that runs:")
	if err := f.on(ctx, "external-lb", "host", "apply", "-f", manifests); err != nil {
		return err
	}
	return f.on(ctx, "external-lb", "host", "status")
}

func (f *first) get(ctx context.Context) (cluster.Answer, error) {
	return get(ctx, f.Cluster, firstAddress)
}

func (f *first) ask(ctx context.Context) error {
	title("Requests from a client's machine, through that nginx")
	return askSome(ctx, f.get, firstAddress)
}

// loseNode takes a node out of the manifests, then its server away, under load.
func (f *first) loseNode(ctx context.Context) error {
	title("node3 goes away, under load")
	load := startLoad(ctx, f.get)
	if err := load.reach(ctx, 200); err != nil {
		return err
	}
	say("node3 is taken out of nodes.yaml")
	if err := f.write(ctx, map[string]string{"nodes.yaml": f.nodes([]string{"node1", "node2"})}); err != nil {
		return err
	}
	if err := f.on(ctx, "external-lb", "host", "apply", "-f", manifests); err != nil {
		return err
	}
	if err := f.idle(ctx, load); err != nil {
		return err
	}
	command("ssh node3 poweroff")
	if err := f.StopServing("node3"); err != nil {
		return err
	}
	if err := load.reach(ctx, 200); err != nil {
		return err
	}
	return load.sumUp()
}

// idle waits until the connections of the configuration before have ended.
func (f *first) idle(ctx context.Context, load *load) error {
	return wait.UntilTrue(ctx, "nginx has ended the workers of the configuration before", func() (bool, error) {
		out, err := f.lb.Exec(ctx, "external-lb", "host", "status")
		return strings.Contains(strings.Join(strings.Fields(out), " "), "old workers 0"), err
	})
}
