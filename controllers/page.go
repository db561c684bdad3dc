package controllers

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/internal/deliver"
	"github.com/external-lb/external-lb/internal/ui"
	"github.com/external-lb/external-lb/internal/ui/page"
)

// addPage to a manager, if there is to be one. It reads what is cached anyhow, beside the
// reconciler, and whether or not this process leads.
func addPage(mgr ctrl.Manager, h hosts, o Options) error {
	if !o.UI.On() {
		return nil
	}
	name, err := os.Hostname()
	if err != nil {
		return err
	}
	v := viewed{mgr.GetAPIReader(), client.ObjectKey{Namespace: o.Namespace, Name: leaseName}, mgr.Elected(), h, name}
	p, err := ui.NewPage(o.UI, ui.Sources{
		Config: mgr.GetConfig(), Cache: mgr.GetCache(), Server: mgr.GetAPIReader(),
		Name: v.describe, Traffic: v.traffic, Log: o.Log.WithName("ui"),
	})
	if err != nil {
		return err
	}
	o.Log.Info("Serving the page", "address", p.Address().String(), "path", ui.Path+"/")
	return mgr.Add(p)
}

// viewed is what a page shows of this process.
type viewed struct {
	server  client.Reader
	lease   client.ObjectKey
	elected <-chan struct{}
	hosts   hosts
	name    string
}

func (v viewed) leads() bool {
	select {
	case <-v.elected:
		return true
	default:
		return false
	}
}

func (v viewed) describe() string {
	if v.leads() {
		return fmt.Sprintf("the manager %s, which leads", v.name)
	}
	return fmt.Sprintf("the manager %s, which does not lead", v.name)
}

// traffic is what hosts tell to the manager that leads. Who looks has them asked, so the next
// answer is a newer one.
func (v viewed) traffic(ctx context.Context) ([]page.Look, error) {
	if v.leads() {
		defer v.hosts.Look()
		return looks(v.hosts.All()), nil
	}
	who := "no manager leads at the moment"
	var lease coordinationv1.Lease
	if err := v.server.Get(ctx, v.lease, &lease); err != nil {
		who = "who leads is not known: " + err.Error()
	} else if holder, _, _ := strings.Cut(ptr.Deref(lease.Spec.HolderIdentity, ""), "_"); holder != "" {
		who = "look at the page of " + holder
	}
	return nil, fmt.Errorf("this manager does not lead, and hosts tell the one that does: %s", who)
}

// looks of all hosts.
func looks(all map[string][]deliver.State) (out []page.Look) {
	for balancer, states := range all {
		for _, s := range states {
			out = append(out, lookOf(balancer, s))
		}
	}
	return out
}

func lookOf(balancer string, s deliver.State) page.Look {
	l := page.Look{Balancer: balancer, Host: s.Host}
	if s.Seen == nil {
		l.Silent = "it has not told yet what its daemons see"
		return l
	}
	if l.At, l.Silent = s.Seen.At, s.Seen.Message; l.Silent != "" {
		return l
	}
	for _, t := range s.Seen.Traffic {
		p := page.PortLook{
			Service: types.NamespacedName{Namespace: t.Service.Namespace, Name: t.Service.Name}, Open: t.Open,
			Counts: page.Counts{Made: t.Made, Refused: t.Refused, Failed: t.Failed, In: t.BytesIn, Out: t.BytesOut},
			Up:     t.Up, Down: t.Down,
		}
		for _, n := range t.Named {
			d := page.DownNode{Node: n.Node}
			if since := s.Seen.Since(t.Listener, n.Node); !since.IsZero() {
				d.Since = since.UTC().Format(time.RFC3339)
			}
			p.DownNodes = append(p.DownNodes, d)
		}
		l.Ports = append(l.Ports, p)
	}
	return l
}
