// Command demo shows external-lb at work: first with manifests as files on one
// balancer host, while Kubernetes is built if need be, then on a test cluster. A
// Service gets an address that answers, its traffic is seen, and it goes on while each
// node is upgraded and one goes away under load. A Service that cannot be satisfied is
// told why; with several hosts, the address moves when the active one is switched off.
// It ends with a failure if any of that fails.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/cluster"
	"github.com/external-lb/external-lb/test/lab"
)

func main() {
	var o options
	flag.BoolVar(&o.check, "check", false, "end when everything was shown, instead of staying up")
	flag.StringVar(&o.binary, "binary", "bin/external-lb", "the external-lb to show")
	flag.StringVar(&o.dir, "dir", cluster.DefaultDir(), "directory of the test cluster")
	flag.IntVar(&o.nodes, "nodes", 3, "nodes of the cluster")
	flag.IntVar(&o.hosts, "hosts", 1, "balancer hosts; with several, keepalived moves the addresses between them")
	flag.StringVar(&o.engine, "engine", string(v1alpha1.EngineNginx), "engine of the hosts: nginx, haproxy or lvs")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil && !(errors.Is(err, context.Canceled) && ctx.Err() != nil) {
		fmt.Fprintf(os.Stderr, "%s\n", paint(red, "demo: "+err.Error()))
		os.Exit(1)
	}
}

type options struct {
	check        bool
	binary, dir  string
	engine       string
	nodes, hosts int
}

func run(ctx context.Context, o options) (err error) {
	binary, err := filepath.Abs(o.binary)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	log := &gate{to: indent{os.Stdout}}
	kubernetes := startLab(ctx, o, binary, log)
	if err := playFirst(ctx, binary, o.dir+"-first"); err != nil {
		err = orInterrupted(ctx, err)
		cancel()
		return errors.Join(err, (<-kubernetes).stop())
	}
	title("A real Kubernetes, %d nodes and %d balancer host(s) with %s, on this machine", o.nodes, o.hosts, o.engine)
	if err := log.lift(); err != nil {
		return err
	}
	started := <-kubernetes
	if started.err != nil {
		return orInterrupted(ctx, started.err)
	}
	defer func() {
		say("stopping the cluster; nothing of it is left behind")
		err = errors.Join(err, started.stop())
	}()
	err = play(ctx, o, &demo{Lab: started.lab, binary: binary, nodes: o.nodes})
	if err != nil && ctx.Err() == nil {
		started.lab.Keep(err)
		return err // though Ctrl-C ended the looking
	}
	return orInterrupted(ctx, err)
}

// orInterrupted is why something failed: that Ctrl-C ended a program says less than that it was pressed.
func orInterrupted(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// starting is a lab, or why there is none.
type starting struct {
	lab *lab.Lab
	err error
}

func (s starting) stop() error {
	if s.lab == nil {
		return nil
	}
	return s.lab.Stop()
}

// startLab builds what is missing of Kubernetes and starts it, in the background.
func startLab(ctx context.Context, o options, binary string, log io.Writer) <-chan starting {
	options := lab.Options{
		Cluster:  cluster.Options{Dir: o.dir, Nodes: o.nodes, Hosts: o.hosts, Binary: binary, Engine: o.engine},
		Root:     ".",
		Balancer: "edge",
		Log:      log,
	}
	if o.hosts > 1 {
		options.Cluster.Addresses = "vrrp"
		options.Change = moveAddresses
	}
	started := make(chan starting, 1)
	go func() {
		l, err := lab.Start(ctx, options)
		started <- starting{l, err}
	}()
	return started
}

func play(ctx context.Context, o options, d *demo) error {
	acts := []func(context.Context) error{d.deploy, d.expose, d.ask, d.watchTraffic, d.upgradeNodes, d.loseNode, d.refuse}
	if o.hosts > 1 {
		acts = append(acts, d.loseHost)
	}
	for _, act := range acts {
		if err := act(ctx); err != nil {
			return err
		}
	}
	if o.check {
		title("Everything above was seen to work")
		return nil
	}
	d.invite(o.dir)
	<-ctx.Done()
	fmt.Println()
	return nil
}
