// Command bench measures external-lb on a test cluster with a real balancer host: each figure as the
// median of several runs, beside its floor of the same run, which is the same files checked and reloaded by
// hand. With `-engine metallb` it measures MetalLB's controller in the same way.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/external-lb/external-lb/test/bench/report"
)

func main() {
	o, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err == nil {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		err = run(ctx, o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

type options struct {
	suites, engines           []string
	sizes                     []size // in place of those of the suites
	runs, creators            int
	full, loaded              bool
	binary, metallb, jsonFile string
}

// parse the command line.
func parse(args []string) (options, error) {
	var o options
	var suiteList, engineList, sizeList string
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.StringVar(&suiteList, "suites", "",
		"suites to measure, with commas between: "+strings.Join(names(), ",")+" (default: all that the engine has)")
	flags.StringVar(&engineList, "engine", "nginx", "engines, with commas between: nginx, haproxy, lvs; or metallb, which has the suite life")
	flags.StringVar(&sizeList, "sizes", "", "in place of the suites' own: 1000 (Services), 1000x100 (Services x nodes); with commas between")
	flags.BoolVar(&o.full, "full", false, "the large sizes, too: hours, and 20 GB of memory")
	flags.IntVar(&o.runs, "runs", 3, "runs, of which the median is told, with the least and the most")
	flags.IntVar(&o.creators, "creators", 20, "clients that create, change and delete Services at a time")
	flags.BoolVar(&o.loaded, "loaded", false,
		"say that others work on this machine; it is said anyway where more than half a CPU is busy at the start")
	flags.StringVar(&o.binary, "binary", "bin/external-lb", "the external-lb to measure")
	flags.StringVar(&o.metallb, "metallb", "bin/metallb-controller", "the controller of MetalLB to measure")
	flags.StringVar(&o.jsonFile, "json", "bench.json", "file for the figures, into which each suite is merged when it has ended")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	var err error
	if o.engines = strings.Split(engineList, ","); o.runs < 1 || o.creators < 1 || flags.NArg() > 0 {
		return o, errors.New("want at least one run and one creator, and no arguments")
	}
	if suiteList != "" {
		o.suites = strings.Split(suiteList, ",")
	}
	if o.sizes, err = parseSizes(sizeList); err != nil {
		return o, err
	}
	if o.binary, err = filepath.Abs(o.binary); err != nil {
		return o, err
	}
	if o.metallb, err = filepath.Abs(o.metallb); err != nil {
		return o, err
	}
	return o, o.known()
}

// known reports what nobody has of suites and engines.
func (o options) known() error {
	for _, e := range o.engines {
		known, there := engines[e]
		if !there {
			return fmt.Errorf("engine %q: want some of %s", e, strings.Join(slices.Sorted(maps.Keys(engines)), ", "))
		}
		for _, s := range o.suites {
			if !slices.Contains(names(), s) {
				return fmt.Errorf("suite %q: want some of %s", s, strings.Join(names(), ", "))
			}
			if !known.has(s) {
				return fmt.Errorf("%s has no suite %s, only %s", e, s, strings.Join(known.only, ", "))
			}
		}
	}
	return nil
}

// run each suite on each engine. What is measured is in the file at once.
func run(ctx context.Context, o options) error {
	for _, name := range o.engines {
		for _, s := range names() {
			if !engines[name].has(s) || o.suites != nil && !slices.Contains(o.suites, s) {
				continue
			}
			fmt.Fprintf(os.Stderr, "== %s on %s\n", s, name)
			measured, err := measure(ctx, o, name, s)
			if err != nil {
				return fmt.Errorf("%s on %s: %w", s, name, err)
			}
			if err := report.Merge(o.jsonFile, measured); err != nil {
				return err
			}
		}
	}
	return show(o)
}

// measure a suite on an engine.
func measure(ctx context.Context, o options, engineName, s string) (report.Suite, error) {
	b := &bench{options: o, name: engineName, engine: engines[engineName]}
	versions, err := b.versions(ctx)
	if err != nil {
		return report.Suite{}, err
	}
	out := report.Suite{Name: s, Engine: engineName, Runs: o.runs}
	if out.Environment, err = report.Here(ctx, versions, o.loaded); err != nil {
		return out, err
	}
	if err := measures[s](b, ctx); err != nil {
		return out, err
	}
	out.Environment.Versions["Kubernetes"] = b.cluster
	out.Rows, out.LeftOut = b.samples.Rows(), b.leftOut
	if slices.ContainsFunc(out.Rows, report.Row.HasFloor) {
		out.Floor = b.engine.floorIs
	}
	return out, nil
}

// show what was measured, beside what other engines have in the file.
func show(o options) error {
	r, err := report.Load(o.jsonFile)
	if err != nil {
		return err
	}
	for _, s := range report.Suites {
		if of := r.Of(s.Name); len(of) > 0 && (o.suites == nil || slices.Contains(o.suites, s.Name)) {
			if err := report.Print(os.Stdout, s.Title, of); err != nil {
				return err
			}
		}
	}
	fmt.Printf("\nThe figures are in %s.\n", o.jsonFile)
	return nil
}
