package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"

	"github.com/external-lb/external-lb/internal/record"
	"github.com/external-lb/external-lb/test/cluster"
	"github.com/external-lb/external-lb/test/wait"
)

// What holds at every moment.
const (
	// answersWithin is how long what is published may not answer while a host that carries
	// it can be reached.
	answersWithin = 30 * time.Second
	// Of the manager, in any minute, whatever happens.
	mostEvents, mostWrites = 200, 300
)

// listener is where a Service can be asked.
type listener struct {
	network string // tcp or udp
	address string
	port    int32
}

func (l listener) String() string { return l.network + " " + l.at() }

func (l listener) at() string { return net.JoinHostPort(l.address, fmt.Sprint(l.port)) }

// listeners of a Service at an address.
func listeners(svc *corev1.Service, address string) (all []listener) {
	for _, port := range svc.Spec.Ports {
		all = append(all, listener{strings.ToLower(string(port.Protocol)), address, port.Port})
	}
	return all
}

// look for what must never be. Services are read before and after all are asked: who has
// an address both times has had it all the time.
func (w *world) look(ctx context.Context) error {
	before, err := w.services(ctx)
	if err != nil {
		return err
	}
	if err := w.judge(before); err != nil {
		return err
	}
	answers, err := w.askAll(ctx)
	if err != nil {
		return err
	}
	plain := w.plain(ctx, before)
	after, err := w.services(ctx)
	if err != nil {
		return err
	}
	for i := range after { // of one that is being deleted, the policy may have gone
		if said := plain[after[i].UID]; said != "" && after[i].DeletionTimestamp.IsZero() {
			return errors.New(said)
		}
	}
	for _, a := range answers {
		if err := misrouted(a, before, after); err != nil {
			return err
		}
	}
	w.forget(answers)
	return errors.Join(w.judge(after), w.reachable(ctx, after), w.quiet())
}

// services are all that there are; while there is no API server, those that there were.
func (w *world) services(ctx context.Context) ([]corev1.Service, error) {
	if w.isOpen(outage) {
		return w.last, nil
	}
	var list corev1.ServiceList
	if err := w.Kube.List(ctx, &list); err != nil {
		return nil, err
	}
	w.last = list.Items
	return list.Items, nil
}

// judge what is published: no listener belongs to two Services, and the address of a
// Service stays.
func (w *world) judge(services []corev1.Service) error {
	owner, now := map[listener]string{}, map[string]string{}
	for i := range services {
		svc := &services[i]
		if w.rival != nil && svc.Name == w.rival.victim {
			continue // nobody knows whose word it is
		}
		for _, in := range svc.Status.LoadBalancer.Ingress {
			key := string(svc.UID)
			if was := w.once[key]; was != "" && was != in.IP {
				return fmt.Errorf("Service %s had %s, and has %s", svc.Name, was, in.IP)
			}
			now[key] = in.IP
			for _, l := range listeners(svc, in.IP) {
				if other, taken := owner[l]; taken {
					return fmt.Errorf("%s is published for the Services %s and %s", l, other, svc.Name)
				}
				owner[l] = svc.Name
				if _, known := w.held[l]; !known && svc.Namespace == namespace {
					w.held[l] = map[string]bool{}
				}
			}
		}
		if _, published := now[string(svc.UID)]; !published && svc.Spec.Type == corev1.ServiceTypeLoadBalancer && !wiped(svc) {
			now[string(svc.UID)] = w.once[string(svc.UID)]
		}
	}
	w.once = now
	return nil
}

// wiped reports whether nothing is recorded of an address: the Service was let go.
func wiped(svc *corev1.Service) bool { return len(record.Addresses(svc)) == 0 }

// answer is what one host has said at a listener.
type answer struct {
	listener
	host string
	app  string // "" if there was none
}

// askAll asks what is or was published at every host that carries traffic, once.
func (w *world) askAll(ctx context.Context) ([]answer, error) {
	var asked []answer
	for _, host := range w.carrying() {
		for l := range w.held {
			asked = append(asked, answer{listener: l, host: host})
		}
	}
	var group errgroup.Group
	group.SetLimit(8)
	for i := range asked {
		group.Go(func() error {
			asked[i].app, _ = w.ask(ctx, asked[i].host, asked[i].listener)
			return nil
		})
	}
	err := group.Wait()
	for _, a := range asked {
		if a.app != "" {
			w.table.answers++
		}
	}
	return asked, err
}

// carrying are the hosts that a client can reach.
func (w *world) carrying() []string {
	return slices.DeleteFunc(w.Hosts(), func(host string) bool {
		return slices.Contains(w.open[host], cut) || slices.Contains(w.open[host], powerOff)
	})
}

// ask a listener by way of a host, each of which has a client that knows no other.
func (w *world) ask(ctx context.Context, host string, l listener) (app string, err error) {
	if l.network == "udp" {
		return w.askUDP(ctx, host, l)
	}
	httpClient := w.HTTPClientFrom("by-" + host)
	defer httpClient.CloseIdleConnections()
	httpClient.Timeout = 2 * time.Second
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+l.at()+"/", nil)
	if err != nil {
		return "", err
	}
	response, err := httpClient.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	return appIn(response.Body)
}

func (w *world) askUDP(ctx context.Context, host string, l listener) (app string, err error) {
	conn, err := w.DialFrom(ctx, "by-"+host, "udp", l.at())
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return "", err
	}
	if _, err := conn.Write([]byte("who\n")); err != nil {
		return "", err
	}
	return appIn(conn)
}

// appIn an answer, the label of the pod.
func appIn(from io.Reader) (string, error) {
	var said cluster.Answer
	if err := json.NewDecoder(io.LimitReader(from, 1<<20)).Decode(&said); err != nil {
		return "", err
	}
	return said.Labels["app"], nil
}

// misrouted says whether an answer was not the one of the Service that has the address,
// or, where it is published for none, of one on whose record it still is.
func misrouted(a answer, before, after []corev1.Service) error {
	if a.app == "" {
		return nil
	}
	first, then := publisher(before, a.address), publisher(after, a.address)
	if first != nil && then != nil {
		if first.UID == then.UID && a.app != first.Spec.Selector["app"] {
			return fmt.Errorf("%s answers at %s for %s, which is published for %s", a.app, a.listener, a.host, first.Name)
		}
		return nil
	}
	for _, svc := range slices.Concat(before, after) {
		if svc.Spec.Selector["app"] == a.app && slices.Contains(record.Addresses(&svc), netip.MustParseAddr(a.address)) {
			return nil
		}
	}
	return fmt.Errorf("%s answers at %s on %s, and no Service of it has this address: orphaned", a.app, a.listener, a.host)
}

// publisher is the Service that an address is published for.
func publisher(services []corev1.Service, address string) *corev1.Service {
	for i := range services {
		for _, in := range services[i].Status.LoadBalancer.Ingress {
			if in.IP == address {
				return &services[i]
			}
		}
	}
	return nil
}

// forget listeners that are nobody's any more and were silent, and remember which have answered.
func (w *world) forget(answers []answer) {
	said := map[listener]bool{}
	for _, a := range answers {
		said[a.listener] = said[a.listener] || a.app != ""
		if a.app != "" {
			w.held[a.listener][a.host] = true
		}
	}
	for l, did := range said {
		svc := publisher(w.last, l.address)
		if !did && (svc == nil || !slices.Contains(listeners(svc, l.address), l)) {
			delete(w.held, l)
		}
	}
}

// reachable holds that what is published answers, by one host at least: what a host has answered that a client
// reaches still, and what is new and was never changed. The new port of a Service comes later, and not on a host
// that takes nothing.
func (w *world) reachable(ctx context.Context, services []corev1.Service) error {
	ctx, cancel := context.WithTimeout(ctx, answersWithin)
	defer cancel()
	for i := range services {
		svc := &services[i]
		if svc.Namespace != namespace || svc.Spec.Type != corev1.ServiceTypeLoadBalancer || !svc.DeletionTimestamp.IsZero() {
			continue
		}
		for _, in := range svc.Status.LoadBalancer.Ingress {
			for _, l := range listeners(svc, in.IP) {
				has := slices.ContainsFunc(w.carrying(), func(host string) bool { return w.held[l][host] })
				if !has && (w.apps[svc.Name].changed || len(w.carrying()) < hosts) {
					continue
				}
				if err := w.answersSomewhere(ctx, l, svc.Name); err != nil {
					return fmt.Errorf("%s is published for %s, and does not answer: %w", l, svc.Name, err)
				}
			}
		}
	}
	return nil
}

func (w *world) answersSomewhere(ctx context.Context, l listener, want string) error {
	return wait.Until(ctx, func(ctx context.Context) error {
		var errs []error
		for _, host := range w.carrying() {
			app, err := w.ask(ctx, host, l)
			if err == nil && app == want {
				return nil
			}
			errs = append(errs, fmt.Errorf("by way of %s %q answers: %v", host, app, err))
		}
		return errors.Join(errs...)
	})
}

// quiet holds that the manager writes no more than it may.
func (w *world) quiet() error {
	if err := w.writes.update(); err != nil {
		return err
	}
	w.table.events = most(w.writes.all, (*written).isEvent)
	w.table.writes = most(w.writes.all, func(one *written) bool { return !one.isEvent() })
	if w.table.events > mostEvents || w.table.writes > mostWrites {
		return fmt.Errorf("the manager made %d events and %d other writes within a minute; %d and %d are allowed",
			w.table.events, w.table.writes, mostEvents, mostWrites)
	}
	return nil
}
