package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/wait"
)

// moveAddresses has keepalived keep the addresses on one host.
func moveAddresses(b *v1alpha1.Balancer) {
	b.Spec.VirtualAddresses = v1alpha1.VirtualAddresses{
		Mode: v1alpha1.VRRP,
		VRRP: &v1alpha1.VRRPSettings{Interface: "eth0", VirtualRouterID: 76, AdvertisementInterval: "100ms"},
	}
}

// holder is the host that has the Service's address.
func (d *demo) holder(ctx context.Context) string {
	for _, name := range d.Hosts() {
		h, err := d.Host(name)
		if err != nil {
			continue
		}
		out, err := h.Exec(ctx, "ip", "-o", "addr", "show", "dev", "eth0")
		if err == nil && strings.Contains(out, " "+d.address+"/") {
			return name
		}
	}
	return ""
}

// loseHost switches the active host off while a client asks all the time.
func (d *demo) loseHost(ctx context.Context) error {
	active := d.holder(ctx)
	title("%s has %s. It is switched off, while a client asks", active, d.address)
	h, err := d.Host(active)
	if err != nil {
		return err
	}
	block("spec:\n  virtualAddresses:\n    mode: VRRP\n    vrrp: {interface: eth0, virtualRouterID: 76, advertisementInterval: 100ms}\n")
	began := time.Now()
	if err := h.PowerOff(ctx); err != nil {
		return err
	}
	if err := d.untilAnswered(ctx); err != nil {
		return err
	}
	good("answered again after %s, by way of %s (an advertisement every 100 ms)", time.Since(began).Round(time.Millisecond), d.holder(ctx))
	say("switching %s on again", active)
	if err := h.PowerOn(ctx); err != nil {
		return err
	}
	err = wait.UntilTrue(ctx, active+" has the address again", func() (bool, error) { return d.holder(ctx) == active, nil })
	if err != nil {
		return err
	}
	if err := d.untilAnswered(ctx); err != nil {
		return err
	}
	good("%s is the active host again, with what it ran before", active)
	err = wait.UntilTrue(ctx, "both run what is desired", func() (bool, error) {
		var b v1alpha1.Balancer
		err := d.Kube.Get(ctx, client.ObjectKey{Name: "edge"}, &b)
		return b.Status.HostsInSync == fmt.Sprintf("%[1]d/%[1]d", len(b.Spec.Hosts)), err
	})
	if err != nil {
		return err
	}
	return d.show(ctx, "get", "balancers")
}

// untilAnswered asks with a short patience, as a client that reconnects.
func (d *demo) untilAnswered(ctx context.Context) error {
	return wait.Precisely(ctx, d.address+" answers", func() (bool, error) {
		ctx, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
		defer cancel()
		_, err := d.get(ctx)
		if err != nil {
			return false, fmt.Errorf("asking %s: %w", d.address, err)
		}
		return true, nil
	})
}
