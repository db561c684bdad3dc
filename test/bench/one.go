package main

import (
	"context"
	"fmt"
	"os"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/bench/report"
	"github.com/external-lb/external-lb/test/builder"
)

// one change among many Services and nodes.
func (b *bench) one(ctx context.Context) error {
	sizes := b.engine.one.of(b.options)
	return b.inLab(ctx, most(sizes), b.plain(), func(ctx context.Context) error {
		return b.atSizes(ctx, sizes, func(s size) error {
			for range b.options.runs {
				if err := b.oneOf(ctx, s); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

// atSizes measures at sizes that fit, one after the other in one lab.
func (b *bench) atSizes(ctx context.Context, sizes []size, measure func(size) error) error {
	now := size{nodes: 1}
	for _, s := range sizes {
		if ok, err := b.fits(s); err != nil || !ok {
			if err != nil {
				return err
			}
			continue
		}
		if err := b.reach(ctx, now, s); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
		now = s
		if err := measure(s); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	return nil
}

// reach a size from another one: first what goes, since both together may not fit.
func (b *bench) reach(ctx context.Context, from, to size) error {
	for i := to.nodes; i < from.nodes; i++ {
		if err := b.Kube.Delete(ctx, builder.Node(nodeName(i)).Manifest()); err != nil {
			return err
		}
	}
	if from.services > to.services {
		if _, err := b.remove(ctx, to.services, from.services-to.services); err != nil {
			return err
		}
	}
	if to.services > from.services {
		if _, err := b.create(ctx, from.services, to.services-from.services); err != nil {
			return err
		}
	}
	for i := from.nodes; i < to.nodes; i++ {
		if err := b.addNode(ctx, i); err != nil {
			return err
		}
	}
	return b.carried(ctx, to)
}

// carried waits until all Services of a size, and perhaps others, are live on its nodes.
func (b *bench) carried(ctx context.Context, s size) error {
	err := b.balancerIs(ctx, s.services, s.String()+" are live", func(bal *v1alpha1.Balancer) bool {
		return int(bal.Status.Services) >= s.services && int(bal.Status.Nodes) == s.nodes && live(bal)
	})
	if err != nil {
		return err
	}
	_, err = b.settled(ctx)
	return err
}

func nodeName(i int) string { return fmt.Sprintf("bench-node-%d", i) }

// addNode makes a Node object: what the balancer sees of a node.
func (b *bench) addNode(ctx context.Context, i int) error {
	node := builder.Node(nodeName(i)).Manifest()
	if err := b.Kube.Create(ctx, node); err != nil {
		return err
	}
	bare := node.DeepCopy()
	node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: fmt.Sprintf("10.99.%d.%d", i/250, 1+i%250)}}
	return b.Kube.Status().Patch(ctx, node, client.MergeFrom(bare))
}

// oneOf measures one round of changes, after which all is as it was.
func (b *bench) oneOf(ctx context.Context, s size) error {
	w, err := b.watch(ctx)
	if err != nil {
		return err
	}
	defer w.stop()
	const name = "one-more"
	svc := b.service(name)
	nodes := func(n int) func() error {
		return func() error {
			return b.balancerIs(ctx, s.services, "nodes are live", func(bal *v1alpha1.Balancer) bool {
				return int(bal.Status.Nodes) == n && live(bal)
			})
		}
	}
	seen := func(t *times) func() error {
		return func() error {
			return b.until(ctx, s.services, "it is seen", func() (bool, error) { return t.has(name), nil })
		}
	}
	for _, c := range []struct {
		what  string
		do    func() error
		until func() error
	}{
		{"a Service more", func() error { return b.Kube.Create(ctx, svc) }, seen(&w.published)},
		{"its port changed", func() error {
			b.changes++
			return b.Kube.Patch(ctx, svc, client.RawPatch(types.JSONPatchType, []byte(otherPort)))
		}, seen(&w.changed)},
		{"it is deleted", func() error { return b.Kube.Delete(ctx, svc) }, seen(&w.gone)},
		{"a node more", func() error { return b.addNode(ctx, s.nodes) }, nodes(s.nodes + 1)},
		{"a node less", func() error { return b.Kube.Delete(ctx, builder.Node(nodeName(s.nodes)).Manifest()) }, nodes(s.nodes)},
	} {
		if err := b.oneChange(ctx, s, c.what, c.do, c.until); err != nil {
			return fmt.Errorf("%s: %w", c.what, err)
		}
	}
	return nil
}

// oneChange measures a change that comes when all is at rest, until somebody sees that it is live.
func (b *bench) oneChange(ctx context.Context, s size, what string, do, until func() error) error {
	if err := b.rest(ctx, s.services); err != nil {
		return err
	}
	before, err := b.usage(ctx)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := do(); err != nil {
		return err
	}
	if err := until(); err != nil {
		return err
	}
	total := since(began)
	after, err := b.settled(ctx)
	if err != nil {
		return err
	}
	figures := cost(before, after, 1)
	figures[report.Total] = total
	if err := b.beside(ctx, figures, total); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "%s, %s: %.2f s, %.2f of the floor\n", s, what, total, figures[report.Ratio])
	b.samples.Add(what, s.services, s.nodes, figures)
	return nil
}
