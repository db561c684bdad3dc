package host

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/external-lb/external-lb/internal/admit"
	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/render"
)

// unitOrder is a delivery as one unit has to carry it.
type unitOrder struct {
	*delivery
	unit   *unit
	shared engine.Carriers  // of this machine: who carries what
	render *render.Renderer // of Services; nil: it carries none
	made   string           // what makes the files, see order.renderer
	only   func(netip.Addr) bool
	trial  *trial // of new templates; nil: there are none
}

// order is a delivery as a unit has to carry it.
func (a *Agent) order(on *delivery, u *unit, c chosen, only func(netip.Addr) bool) *unitOrder {
	o := &unitOrder{delivery: on, unit: u, shared: a.settings.carriers(), made: a.made(c.Renderer), only: only}
	switch u.carries {
	case nil:
	case o.shared.Main:
		o.render = c.Renderer
	default:
		o.render = a.beside
	}
	return o
}

func (o *unitOrder) renderer() string { return o.made }
func (o *unitOrder) custom() bool     { return o.render != nil && o.render.Custom() }

func (o *unitOrder) files() (map[string]planned, lb.Sums, error) {
	if err := o.trial.failed(); err != nil {
		return nil, nil, err
	}
	o.settle()
	files, items := map[string]planned{}, lb.Sums{}
	if o.render != nil {
		all, cannot := o.render.FilesAfter(&o.unit.rendered, o.shared.Part(o.unit.carries, o.config), o.madeOf)
		older := false
		for _, r := range cannot {
			older = o.delivery.refuse(r.Key, r.Reason, r.Message) || older
		}
		if older {
			return o.files() // each Service has one older version at most
		}
		for _, f := range all {
			files[f.Path] = o.planned(f)
		}
		for _, n := range o.config.Nodes {
			key := lb.NodeKey(n.Name)
			items[key] = o.sums[key]
		}
		for _, c := range o.config.Certificates {
			key := lb.CertificateKey(c.Name())
			items[key] = o.sums[key]
		}
		if o.shared.Datagrams != nil { // one that has no port of a Service says so, see together
			for _, s := range o.config.Services {
				key := lb.ServiceKey(s.ID)
				items[key] = o.sums[key]
			}
		}
	}
	if o.unit.moves && o.config.VRRP != nil {
		if err := o.addAddresses(files, items); err != nil {
			return nil, nil, err
		}
	}
	return files, items, nil
}

func (o *unitOrder) planned(f render.File) planned {
	e := entry{Fragment: f.Fragment, Private: f.Private, Listens: f.Listens, Key: f.Key, From: f.From}
	if f.Key != "" {
		e.Item = o.sums[f.Key]
	}
	return planned{e, func() (made, error) {
		m, err := f.Make()
		switch {
		case err != nil || m.Problem == nil:
			return made{data: m.Data, view: m.View}, err
		case o.trial != nil:
			o.trial.blame(f.Key, m.Problem.Error())
			return made{}, o.trial.failed()
		}
		return made{m.Data, m.View, m.Problem.Error()}, nil
	}}
}

// addAddresses adds the files of what agrees on addresses with other hosts.
func (o *unitOrder) addAddresses(files map[string]planned, items lb.Sums) error {
	addresses := slices.DeleteFunc(slices.Clone(o.config.Addresses), func(a netip.Addr) bool { return !o.only(a) })
	router, each, err := o.unit.settings.table.VRRP.Files(o.config.VRRP, addresses)
	if err != nil {
		return err
	}
	add := func(f engine.Printed, key lb.Key) {
		router := key == lb.VRRPKey // which a daemon may refuse
		files[f.Path] = planned{entry{Fragment: router, Key: key, Item: o.sums[key], From: lb.Sum(f.Sum)}, func() (made, error) {
			view, err := json.Marshal(f.View)
			return made{data: f.Data, view: view}, err
		}}
	}
	add(router, lb.VRRPKey)
	for i, f := range each {
		add(f, lb.AddressKey(addresses[i]))
	}
	return nil
}

func (o *unitOrder) refuse(culprits map[string]engine.Culprit) (changed bool) {
	for _, p := range slices.Sorted(maps.Keys(culprits)) {
		c := culprits[p]
		if p == o.unit.settings.table.VRRP.Router {
			o.delivery.refuse(lb.VRRPKey, lb.RefusedUnavailable, c.Reason)
			changed = true // the addresses go with it, or an older one stays
			continue
		}
		id, isService := engine.ParsePath(p)
		if !isService {
			continue
		}
		key := lb.ServiceKey(id)
		for s, why := range c.Sockets {
			l := lb.Listener{Address: s.Address.Addr(), Port: s.Address.Port(), Protocol: lb.Protocol(strings.ToUpper(s.Network))}
			o.refused[refused{key, l}] = lb.Refusal{Key: key, Listener: l, Reason: lb.RefusedUnavailable, Message: why}
			o.settled, changed = false, true
		}
		switch {
		case len(c.Sockets) > 0:
		case o.trial.blame(key, c.Reason):
			changed = true
		default:
			changed = o.delivery.refuse(key, lb.RefusedByEngine, c.Reason) || changed
		}
	}
	return changed
}

func (o *unitOrder) refuseNodes(keys []lb.Key) {
	for _, key := range keys {
		o.delivery.refuse(key, lb.RefusedByEngine, fmt.Sprintf("with it, the files of all Services have more than the %d bytes that the host has room for: %s", maxSources, fewerNodes))
	}
}

// made says what makes files: another version, engine, templates or settings make
// others. What stands behind the dot is of this machine alone: which ports its own
// daemons hold, from which of its addresses it connects, how much it carries, and how
// much of that for one Service.
func (a *Agent) made(r *render.Renderer) string {
	rules := a.settings.Admit
	own, _ := json.Marshal(general{ // values that were read from YAML, here and below
		ConnectionsPerService: a.settings.ConnectionsPerService, Admit: admit.Rules{Held: rules.Held, MaxBackends: rules.MaxBackends, Sources: rules.Sources},
	})
	rules.Held, rules.MaxBackends, rules.Sources = nil, 0, nil
	others, _ := json.Marshal(rules)
	main := r.Sum()
	templates := main[:]
	if a.beside != nil {
		sum := a.beside.Sum()
		templates = slices.Concat(templates, sum[:])
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%s\n%x\n%s", Version(), a.settings.carriers(), templates, others))
	ownSum := sha256.Sum256(own)
	return hex.EncodeToString(sum[:8]) + "." + hex.EncodeToString(ownSum[:4])
}
