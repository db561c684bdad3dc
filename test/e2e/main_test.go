// Package e2e proves what users see: requests from a client through the real
// balancers of a test cluster, what kubectl prints, events and statuses. Tests
// bear the number of the row of docs/reference/semantics.md that they prove.
package e2e

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"k8s.io/utils/ptr"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/cluster"
	"github.com/external-lb/external-lb/test/conformance"
	"github.com/external-lb/external-lb/test/lab"
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
var record *conformance.Record

// onlyEngine runs the suite on one engine instead of on all.
var onlyEngine = flag.String("engine", "", "run on this engine alone")

func TestMain(m *testing.M) {
	flag.Parse()
	if *onlyEngine == "" {
		os.Exit(onEveryEngine())
	}
	at := slices.IndexFunc(engines, func(e testedEngine) bool { return string(e.name) == *onlyEngine })
	if at < 0 {
		fmt.Fprintf(os.Stderr, "no engine is called %q\n", *onlyEngine)
		os.Exit(2)
	}
	engine = engines[at]
	record = conformance.NewRecord(engine.name)
	os.Exit(max(run(m), conforms()))
}

// onEveryEngine runs this program for each engine, two at a time: the suite waits more
// than it works. The last, LVS, whose hosts are virtual machines, has the machine for
// itself.
func onEveryEngine() int {
	var failed atomic.Bool
	for together := range slices.Chunk(engines, 2) {
		var running sync.WaitGroup
		for _, e := range together {
			running.Go(func() {
				if !passes(e) {
					failed.Store(true)
				}
			})
		}
		running.Wait()
	}
	if failed.Load() {
		return 1
	}
	return 0
}

// passes runs this program for one engine, and prints what it said when it has ended.
func passes(e testedEngine) bool {
	runtime.LockOSThread() // the child is to end with this process, not with a thread that ends before
	began := time.Now()
	child := exec.Command(os.Args[0], append(childArgs(), "-engine="+string(e.name))...)
	child.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := child.CombinedOutput()
	if err != nil {
		out = fmt.Appendln(out, err)
	}
	fmt.Fprintf(os.Stderr, "== on %s, %.0f s\n%s", e.name, time.Since(began).Seconds(), out)
	return err == nil
}

// childArgs are this program's flags, without that which names a file of its own.
func childArgs() []string {
	return slices.DeleteFunc(slices.Clone(os.Args[1:]), func(a string) bool { return strings.HasPrefix(a, "-test.testlogfile=") })
}

// conforms prints the table of rows, and is 1 where the suite has run as a whole and a row is not as its table says.
func conforms() int {
	for _, filter := range []string{"test.run", "test.skip", "test.list"} {
		if flag.Lookup(filter).Value.String() != "" {
			return 0
		}
	}
	fmt.Fprintf(os.Stderr, "conformance of %s:\n", engine.name)
	return min(1, conformance.Print(os.Stderr, record.Results()))
}

// run the suite on the engine.
func run(m *testing.M) int {
	ctx := context.Background()
	fail := func(err error) int {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	dir, err := os.MkdirTemp("", "external-lb-e2e-")
	if err != nil {
		return fail(err)
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "external-lb")
	clusterDir = filepath.Join(dir, filepath.Base(cluster.DefaultDir()))
	build := exec.CommandContext(ctx, "go", "build", "-o", binary, "github.com/external-lb/external-lb")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fail(fmt.Errorf("go build: %w\n%s", err, out))
	}
	env, err = lab.Start(ctx, lab.Options{
		Cluster:    cluster.Options{Dir: clusterDir, Nodes: 3, Hosts: 2, DualStack: true, Binary: binary, Engine: string(engine.name)},
		Root:       filepath.Join("..", ".."),
		TLSSecrets: true,
		Balancer:   balancer,
		Change:     func(b *v1alpha1.Balancer) { b.Spec.Reload.MinInterval = "100ms" },
		Log:        os.Stderr,
	})
	if err != nil {
		return fail(err)
	}
	defer func() {
		if err := env.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}()
	if err := createPools(ctx); err != nil {
		return fail(err)
	}
	return m.Run()
}

// createPools makes the pool that most tests use, and one that must be named.
func createPools(ctx context.Context) error {
	for name, spec := range map[string]v1alpha1.AddressPoolSpec{
		"public":  {Addresses: []v1alpha1.AddressRange{"203.0.113.0/25", "2001:db8:0:1::/120"}},
		"on-call": {Addresses: []v1alpha1.AddressRange{"203.0.113.128/28"}, AutoAssign: ptr.To(false), Sharing: v1alpha1.SharingPorts},
	} {
		pool := &v1alpha1.AddressPool{Spec: spec}
		pool.Name, pool.Spec.Balancer = name, balancer
		if err := env.Kube.Create(ctx, pool); err != nil {
			return err
		}
	}
	return nil
}
