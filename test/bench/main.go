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
	flag.IntVar(&o.services, "services", 1000, "Services to create")
	flag.IntVar(&o.creators, "creators", 20, "creators at a time")
	flag.IntVar(&o.nodes, "nodes", 100, "nodes in the second half")
	flag.StringVar(&o.engine, "engine", "nginx", "daemon on the host: nginx or haproxy")
	flag.StringVar(&o.binary, "binary", "bin/external-lb", "the external-lb to measure")
	flag.StringVar(&o.json, "json", "bench.json", "file for the results as JSON")
	flag.Parse()
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

// Result is one line of the table.
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
	binary, err := filepath.Abs(o.binary)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "external-lb-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	l, err := lab.Start(ctx, lab.Options{
		Cluster:  cluster.Options{Dir: filepath.Join(dir, "cluster"), Nodes: 1, Hosts: 1, Binary: binary, Engine: o.engine},
		Root:     ".",
		Balancer: "edge",
		Log:      os.Stderr,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Stop()) }()
	pool := &v1alpha1.AddressPool{Spec: v1alpha1.AddressPoolSpec{Balancer: "edge", Addresses: []v1alpha1.AddressRange{"10.64.0.0/20"}}}
	pool.Name = "bench"
	if err := l.Kube.Create(ctx, pool); err != nil {
		return err
	}
	b := &bench{Lab: l, options: o, daemon: daemons[o.engine]}
	if err := b.tuneHost(ctx); err != nil {
		return err
	}
	for _, measure := range []func(context.Context) (Result, error){b.storm, b.restart, b.coldStart, b.oneMore, b.nodeRemoved, b.underLoad} {
		r, err := measure(ctx)
		if err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "%s: %.2f s (p50 %.2f, p99 %.2f), %.0f reloads, %.0f writes, %.1f s of CPU\n", r.Name, r.Total, r.P50, r.P99, r.Reloads, r.Writes, r.CPU)
		b.results = append(b.results, r)
	}
	return b.print()
}

func (b *bench) print() error {
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "measure\ttotal\tp50\tp99\treloads\tAPI writes\tper Service\tmanager RSS\tCPU\tfloor\t")
	for _, r := range b.results {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%.0f\t%.0f\t%s\t%.0f MB\t%s\t%s\t\n", r.Name,
			seconds(r.Total), seconds(r.P50), seconds(r.P99), r.Reloads, r.Writes, orDash("%.1f", r.PerEach), r.RSS, seconds(r.CPU), seconds(r.Floor))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	fmt.Printf("%s; floor: its check and a reload of the same files by hand\n", b.options.engine)
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
