// Command bench measures external-lb on a test cluster with a real balancer
// host, each figure beside its floor: the same files checked and reloaded by hand.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/cluster"
	"github.com/external-lb/external-lb/test/lab"
)

func main() {
	var o options
	flag.IntVar(&o.services, "services", 0, "Services to create (default 1000; on lvs, whose host is User-Mode Linux, 200)")
	flag.IntVar(&o.creators, "creators", 20, "creators at a time")
	flag.IntVar(&o.nodes, "nodes", 100, "nodes in the second half")
	flag.StringVar(&o.engine, "engine", "nginx", "engine of the host: nginx, haproxy or lvs")
	flag.StringVar(&o.binary, "binary", "bin/external-lb", "the external-lb to measure")
	flag.StringVar(&o.json, "json", "bench.json", "file for the results as JSON")
	flag.Parse()
	if o.services == 0 {
		o.services = 1000
		if o.engine == string(v1alpha1.EngineLVS) {
			o.services = 200
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

type options struct {
	services, creators, nodes int
	engine, binary, json      string
}

// Result is one line of the table. Where nothing is published, Total is what its Name says.
type Result struct {
	Name    string  `json:"name"`
	Total   float64 `json:"totalSeconds"`
	P50     float64 `json:"p50Seconds,omitempty"`
	P99     float64 `json:"p99Seconds,omitempty"`
	Reloads float64 `json:"reloads"`
	Writes  float64 `json:"apiWrites"`
	PerEach float64 `json:"apiWritesPerService,omitempty"`
	RSS     float64 `json:"managerPeakRSSMegabytes"`
	CPU     float64 `json:"managerCPUSeconds"`
	Floor   float64 `json:"floorSeconds"`
	// Of changes under load.
	Requests   int `json:"requests,omitempty"`
	Failed     int `json:"failedRequests"`
	OldWorkers int `json:"oldWorkers,omitempty"`
}

func run(ctx context.Context, o options) (err error) {
	if daemons[o.engine].floor == "" {
		return fmt.Errorf("engine %q: want nginx, haproxy or lvs", o.engine)
	}
	if o.binary, err = filepath.Abs(o.binary); err != nil {
		return err
	}
	b := &bench{options: o, daemon: daemons[o.engine]}
	if err := b.inLab(ctx, lab.Options{Cluster: cluster.Options{Nodes: 1, Hosts: 1}, Change: b.daemon.change},
		b.tuneHost, b.measured(b.storm), b.measured(b.restart), b.measured(b.coldStart),
		b.measured(b.oneMore), b.measured(b.nodeRemoved), b.measured(b.underLoad)); err != nil {
		return err
	}
	for _, interval := range []string{"1s", "100ms"} {
		if err := b.inLab(ctx, failOverLab(interval), b.measured(b.failOver(interval))); err != nil {
			return err
		}
	}
	return b.print()
}

// inLab runs steps in a lab of their own.
func (b *bench) inLab(ctx context.Context, o lab.Options, steps ...func(context.Context) error) (err error) {
	dir, err := os.MkdirTemp("", "external-lb-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	o.Cluster.Dir, o.Cluster.Binary, o.Cluster.Engine = filepath.Join(dir, "cluster"), b.options.binary, b.options.engine
	o.Root, o.Balancer, o.Log = ".", "edge", os.Stderr
	if b.Lab, err = lab.Start(ctx, o); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Stop()) }()
	pool := &v1alpha1.AddressPool{Spec: v1alpha1.AddressPoolSpec{Balancer: "edge", Addresses: []v1alpha1.AddressRange{"10.64.0.0/20"}}}
	pool.Name = "bench"
	if err := b.Kube.Create(ctx, pool); err != nil {
		return err
	}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// measured is a step that adds a line to the table.
func (b *bench) measured(measure func(context.Context) (Result, error)) func(context.Context) error {
	return func(ctx context.Context) error {
		r, err := measure(ctx)
		if err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "%s: %.2f s (p50 %.2f, p99 %.2f), %.0f reloads, %.0f writes, %.1f s of CPU\n",
			r.Name, r.Total, r.P50, r.P99, r.Reloads, r.Writes, r.CPU)
		b.results = append(b.results, r)
		return nil
	}
}

func (b *bench) print() error {
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "measure\ttotal\tp50\tp99\treloads\tAPI writes\tper Service\tmanager RSS\tCPU\tfloor\t")
	for _, r := range b.results {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%.0f\t%.0f\t%s\t%.0f MB\t%s\t%s\t\n", r.Name,
			seconds(r.Total), seconds(r.P50), seconds(r.P99), r.Reloads, r.Writes,
			orDash("%.1f", r.PerEach), r.RSS, seconds(r.CPU), seconds(r.Floor))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	fmt.Printf("%s; floor: %s\n", b.options.engine, b.daemon.floorIs)
	data, err := json.MarshalIndent(b.results, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(b.options.json, append(data, '\n'), 0o644)
}

func seconds(s float64) string { return orDash("%.2f s", s) }

func orDash(format string, v float64) string {
	if v == 0 {
		return "-"
	}
	return fmt.Sprintf(format, v)
}

// since is a stopwatch in seconds.
func since(t time.Time) float64 { return time.Since(t).Seconds() }
