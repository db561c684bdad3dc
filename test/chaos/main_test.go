// Package chaos takes the test cluster through a schedule of faults: users who come and
// go, crashes, partitions, full disks, reboots, hostile objects. Between any two steps what
// must never be is looked for, and at each calm what must be so in the end. The schedule
// follows from a seed, which is printed: a run can be repeated with it.
package chaos

import (
	"context"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/builder"
	"github.com/external-lb/external-lb/test/cluster"
	"github.com/external-lb/external-lb/test/lab"
)

var (
	engine = flag.String("engine", string(v1alpha1.EngineNginx), "nginx, haproxy or lvs")
	seed   = flag.Uint64("seed", 1, "what the schedule follows from")
	steps  = flag.Int("steps", 36, "how many steps the schedule has")
)

func TestSchedule_InvariantsHold(t *testing.T) {
	t.Logf("to repeat it: make chaos ENGINE=%s SEED=%d STEPS=%d", *engine, *seed, *steps)
	w := newWorld(t)
	defer w.table.print(os.Stderr)
	for i, s := range schedule(*seed, *steps) {
		if err := w.run(t.Context(), i, s); err != nil {
			w.explain(context.Background())
			w.Keep(err)
			t.Fatalf("seed %d, step %d (%s): %v", *seed, i, s, err)
		}
	}
}

// newWorld starts the cluster with external-lb on it, and the pods of every app.
func newWorld(t *testing.T) *world {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "cluster")
	binary, err := lab.Build(t.Context(), t.TempDir())
	must(t, err)
	log, arguments, err := audit(t.TempDir())
	must(t, err)
	l, err := lab.Start(t.Context(), lab.Options{
		Cluster: cluster.Options{
			Dir: dir, Nodes: nodes, Hosts: hosts, Binary: binary, Engine: *engine, HostDisk: "128m", APIServerArgs: arguments,
		},
		Root: filepath.Join("..", ".."), Balancer: "edge", Log: os.Stderr,
		Change: func(b *v1alpha1.Balancer) { b.Spec.Default, b.Spec.Reload.MinInterval = true, "100ms" },
	})
	must(t, err)
	t.Cleanup(func() {
		if err := l.Stop(); err != nil {
			t.Error(err)
		}
	})
	w := &world{
		Lab: l, apps: map[string]*app{}, held: map[listener]bool{}, open: map[string][]kind{}, once: map[string]string{},
		writes: log, table: newTable(),
	}
	t.Cleanup(func() {
		if w.paused != nil {
			must(t, w.paused.Kill())
		}
	})
	// As few addresses as will do: each is soon somebody else's.
	must(t, w.Kube.Create(t.Context(), builder.AddressPool("public", "203.0.113.0/29").Balancer("edge").Manifest()))
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
