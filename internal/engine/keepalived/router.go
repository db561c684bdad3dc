package keepalived

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/external-lb/external-lb/internal/engine"
)

// With VRRP, keepalived agrees with the other hosts which of them has the addresses.

// decided waits, too, until the hosts had the time to agree which of them is
// active: a router that is new or changed begins as one that is not.
func (k *Daemon) decided(p engine.Proof) engine.Proof {
	agreement := 4 * k.router(engine.LiveLink).Every
	p.Within += agreement
	ask, until := p.Ask, time.Now().Add(agreement)
	p.Ask = func(ctx context.Context) (engine.Answer, error) {
		if !k.Active() && time.Now().Before(until) {
			return engine.Answer{}, errors.New("the hosts have not agreed yet which of them is active")
		}
		return ask(ctx)
	}
	return p
}

// sameRouter reports whether what goes live has the router that was live before.
func (k *Daemon) sameRouter() bool {
	now := k.router(engine.LiveLink)
	return now != virtualRouter{} && now == k.router(engine.BackLink)
}

// Active reports whether this host has the addresses that move.
func (k *Daemon) Active() bool { return k.router(engine.LiveLink).active() }

// router is the virtual router of a set. What cannot be read, keepalived does not have
// for long: files that somebody has changed are made anew.
func (k *Daemon) router(link string) (r virtualRouter) {
	set, err := k.Set(link)
	if err != nil {
		return virtualRouter{}
	}
	if _, err := set.View(mainPath, &r); err != nil {
		return virtualRouter{}
	}
	return r
}

// active reports whether this host has the addresses.
func (r virtualRouter) active() bool {
	have, err := addressesOf(r.Interface)
	return err == nil && have[r.Own]
}

// lacking says which address an active host lacks; "" if none, or if this is not one.
func (k *Daemon) lacking() string {
	r := k.router(engine.LiveLink)
	have, err := addressesOf(r.Interface)
	if err != nil || !have[r.Own] {
		return ""
	}
	set, err := k.Set(engine.LiveLink)
	if err != nil {
		return err.Error()
	}
	for _, path := range set.Paths {
		if !strings.HasPrefix(path, addressesPrefix) {
			continue
		}
		var a netip.Addr
		if _, err := set.View(path, &a); err != nil {
			return err.Error()
		}
		if !have[a] {
			return fmt.Sprintf("this host is the active one and lacks %s on %s", a, r.Interface)
		}
	}
	return ""
}

func addressesOf(device string) (map[netip.Addr]bool, error) {
	link, err := net.InterfaceByName(device)
	if err != nil {
		return nil, err
	}
	all, err := link.Addrs()
	if err != nil {
		return nil, err
	}
	have := make(map[netip.Addr]bool, len(all))
	for _, a := range all {
		if prefix, err := netip.ParsePrefix(a.String()); err == nil {
			have[prefix.Addr().Unmap()] = true
		}
	}
	return have, nil
}
