// Package chaos takes the test cluster through a schedule of faults: users who come and
// go, crashes, partitions, full disks, reboots, hostile objects. Between any two steps what
// must never be is looked for, and at each calm what must be so in the end. The schedule
// follows from a seed, which is printed: a run can be repeated with it.
package chaos

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/builder"
	"github.com/external-lb/external-lb/test/cluster"
	"github.com/external-lb/external-lb/test/lab"
	"github.com/external-lb/external-lb/test/wait"
)

var (
	engine = flag.String("engine", "", "nginx, haproxy or lvs; none: nginx and haproxy, beside each other")
	seed   = flag.Uint64("seed", 275, "what the schedule follows from; without it, one that has many kinds in few steps")
	steps  = flag.Int("steps", 24, "how many steps the schedule has")
	often  = flag.String("often", "", "kinds of steps, as they are printed, with commas between them, that are to come more often than others")
)

func TestSchedule_InvariantsHold(t *testing.T) {
	engines := []string{*engine}
	if *engine == "" {
		engines = []string{string(v1alpha1.EngineNginx), string(v1alpha1.EngineHAProxy)}
	}
	for _, name := range engines {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // much of the time is spent waiting, as for a Lease to run out
			invariantsHold(t, v1alpha1.Engine(name))
		})
	}
}

func invariantsHold(t *testing.T, engine v1alpha1.Engine) {
	t.Logf("to repeat it: make chaos ENGINE=%s SEED=%d STEPS=%d OFTEN='%s'", engine, *seed, *steps, *often)
	w := newWorld(t, engine)
	defer w.table.print(os.Stderr)
	for i, s := range schedule(*seed, *steps, strings.Split(*often, ",")...) {
		if err := w.run(t.Context(), i, s); err != nil {
			w.explain(context.Background())
			w.Keep(err)
			t.Fatalf("seed %d, step %d (%s): %v", *seed, i, s, err)
		}
	}
}

// newWorld starts the cluster with external-lb on it, and the pods of every app.
func newWorld(t *testing.T, engine v1alpha1.Engine) *world {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "cluster")
	binary, err := lab.Build(t.Context(), t.TempDir())
	must(t, err)
	log, arguments, err := audit(t.TempDir())
	must(t, err)
	l, err := lab.Start(t.Context(), lab.Options{
		Cluster: cluster.Options{
			Dir: dir, Nodes: nodes, Hosts: hosts, Binary: binary, Engine: string(engine), HostDisk: "128m", APIServerArgs: arguments,
		},
		Root: filepath.Join("..", ".."), Balancer: "edge", TLSSecrets: true, Log: os.Stderr,
		Change: func(b *v1alpha1.Balancer) { b.Spec.Default, b.Spec.Reload.MinInterval = true, "100ms" },
	})
	must(t, err)
	t.Cleanup(func() {
		if err := l.Stop(); err != nil {
			t.Error(err)
		}
	})
	w := &world{
		Lab: l, engine: engine, apps: map[string]*app{}, held: map[listener]map[string]bool{}, open: map[string][]kind{}, once: map[string]string{},
		writes: log, table: newTable(),
	}
	t.Cleanup(func() {
		if w.paused != nil {
			must(t, w.paused.Kill())
		}
		if w.rival != nil {
			w.rival.stop()
			<-w.rival.done
		}
	})
	// As few addresses as will do: each is soon somebody else's.
	must(t, w.Kube.Create(t.Context(), builder.AddressPool("public", "203.0.113.0/29").Balancer("edge").Manifest()))
	must(t, w.Kube.Create(t.Context(), builder.AddressPool(strangersPool, "203.0.113.64/26").Balancer("edge").Manual().Manifest()))
	must(t, w.Kube.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: deniedNamespace}}))
	wait.For(t, func(ctx context.Context) error { // so that there is a selector before one that cannot be read
		b := &v1alpha1.Balancer{}
		if err := w.Kube.Get(ctx, client.ObjectKey{Name: "edge"}, b); err != nil {
			return err
		}
		if !meta.IsStatusConditionTrue(b.Status.Conditions, v1alpha1.ConditionAccepted) {
			return fmt.Errorf("the Balancer says %+v", b.Status.Conditions)
		}
		return nil
	})
	for _, name := range w.Hosts() {
		h, err := w.Host(name)
		must(t, err)
		must(t, w.AddClient(t.Context(), "by-"+name))
		_, err = w.Exec(t.Context(), "by-"+name, "ip", "route", "replace", "203.0.113.0/24", "via", h.Addr().String())
		must(t, err)
	}
	_, err = w.AddPod(t.Context(), cluster.PodSpec{Namespace: stranger, Name: stranger, Node: "node1"})
	must(t, err)
	for i, name := range numbered("app", apps) {
		for _, node := range numbered("node", nodes) {
			_, err := w.AddPod(t.Context(), cluster.PodSpec{Name: name + "-" + node, Node: node, Labels: map[string]string{"app": name}})
			must(t, err)
		}
		w.apps[name] = &app{name: name, port: int32(80 + i)}
	}
	return w
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
