// Package e2e proves what users see: requests from a client through the real
// balancers of a test cluster, what kubectl prints, events and statuses. Tests
// bear the number of the row of docs/reference/semantics.md that they prove.
package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"k8s.io/utils/ptr"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/builder"
	"github.com/external-lb/external-lb/test/cluster"
	"github.com/external-lb/external-lb/test/conformance"
	"github.com/external-lb/external-lb/test/lab"
	"github.com/external-lb/external-lb/test/share"
)

const (
	balancer = "edge"
	class    = "external-lb.dev/edge"
)

// env is the one lab of this package: three nodes, two hosts, dual stack.
var env *lab.Lab

// binary is the external-lb under test, and clusterDir the test cluster's directory.
var binary, clusterDir string

// record is what became of the tests that bear a row's number, on the engine.
var record results

var (
	onlyEngine  = flag.String("engine", "", "run on this engine alone")
	kubernetes  = flag.String("kubernetes", "", "run on this minor release of Kubernetes, such as 1.34 (default: the newest)")
	builtBinary = flag.String("binary", "", "the external-lb under test (default: it is built)")
	resultsFile = flag.String("results", "", "write what became of the tests to this file")
)

func TestMain(m *testing.M) {
	flag.Parse()
	if isSet("test.list") {
		os.Exit(m.Run()) // which needs no lab
	}
	if *onlyEngine == "" {
		os.Exit(onEveryEngine())
	}
	all := append(slices.Clone(engines), inOctavia)
	at := slices.IndexFunc(all, func(e testedEngine) bool { return string(e.called()) == *onlyEngine })
	if at < 0 {
		fmt.Fprintf(os.Stderr, "no engine is called %q\n", *onlyEngine)
		os.Exit(2)
	}
	engine = all[at]
	filtered := share.Filtered()
	if engine.own != "" && !filtered {
		_ = flag.Set("test.run", engine.part) // a pattern
	}
	if !isSet("test.parallel") {
		_ = flag.Set("test.parallel", atOnce) // a number
	}
	code := run(m)
	switch {
	case *resultsFile != "":
		if err := record.write(*resultsFile); err != nil {
			code = share.Failed(err)
		}
	case !filtered:
		code = max(code, conforms(engine.called(), record.all))
	}
	os.Exit(code)
}

// isSet reports whether somebody has set a flag.
func isSet(name string) (set bool) {
	flag.Visit(func(f *flag.Flag) { set = set || f.Name == name })
	return set
}

// conforms prints the table of some rows, or of all, and is 1 where one is not as its table says.
func conforms(engine v1alpha1.Engine, tests []result, of ...string) int {
	rows := conformance.NewRecord(engine, of...)
	for _, r := range tests {
		rows.Add(r.Test, r.Outcome, r.Took)
	}
	fmt.Fprintf(os.Stderr, "conformance of %s:\n", engine)
	return min(1, conformance.Print(os.Stderr, rows.Results()))
}

// run the suite on the engine.
func run(m *testing.M) int {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "external-lb-e2e-")
	if err != nil {
		return share.Failed(err)
	}
	defer os.RemoveAll(dir)
	clusterDir = filepath.Join(dir, filepath.Base(cluster.DefaultDir()))
	if binary = *builtBinary; binary == "" {
		if binary, err = lab.Build(ctx, dir); err != nil {
			return share.Failed(err)
		}
	}
	options := lab.Options{
		Cluster: cluster.Options{
			Dir: clusterDir, Nodes: 3, Hosts: 2, DualStack: true, Binary: binary,
			Engine: string(engine.name), Datagrams: engine.datagrams != "", Kubernetes: *kubernetes,
		},
		Root:       filepath.Join("..", ".."),
		TLSSecrets: true,
		Balancer:   balancer,
		Change:     func(b *v1alpha1.Balancer) { b.Spec.Reload.MinInterval = "100ms" },
		Log:        os.Stderr,
	}
	if engine.name == v1alpha1.EngineProvider {
		options.Cluster.Engine, options.Cluster.Hosts, options.Bare, options.Balancer = "lvs", 1, true, "" // see startCloud
	}
	if env, err = lab.Start(ctx, options); err != nil {
		return share.Failed(err)
	}
	defer func() {
		if err := env.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}()
	if engine.name == v1alpha1.EngineProvider {
		if err := startCloud(ctx, dir); err != nil {
			return share.Failed(err)
		}
		defer cloudProvider.Stop()
	}
	if err := errors.Join(createPools(ctx), warmOpenAPI(ctx)); err != nil {
		return share.Failed(err)
	}
	return m.Run()
}

// warmOpenAPI has the API server describe its kinds, which kubectl asks for a List: at the first
// time this is seconds of a processor, and among all tests more than kubectl waits.
func warmOpenAPI(ctx context.Context) error {
	return env.Client().Discovery().RESTClient().Get().AbsPath("/openapi/v2").Do(ctx).Error()
}

// createPools makes the pool that most tests use, and one that must be named.
func createPools(ctx context.Context) error {
	for name, spec := range map[string]v1alpha1.AddressPoolSpec{
		"public":  {Addresses: []v1alpha1.AddressRange{"203.0.113.0/25", "2001:db8:0:1::/120"}},
		"on-call": {Addresses: []v1alpha1.AddressRange{"203.0.113.128/28"}, AutoAssign: ptr.To(false), Sharing: v1alpha1.SharingPorts},
	} {
		pool := builder.AddressPool(name).Manifest()
		pool.Spec, pool.Spec.Balancer = spec, balancer
		if err := env.Kube.Create(ctx, pool); err != nil {
			return err
		}
	}
	return nil
}
