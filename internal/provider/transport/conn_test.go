package transport

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/external-lb/external-lb/internal/deliver"
	"github.com/external-lb/external-lb/internal/host"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/provider/providertest"
	"github.com/external-lb/external-lb/provider"
	"github.com/external-lb/external-lb/test/wait"
)

// one is the only Spec in the cloud.
func (w *world) one() provider.Spec {
	w.t.Helper()
	w.Lock()
	defer w.Unlock()
	if len(w.All) != 1 {
		w.t.Fatalf("there are %d load balancers", len(w.All))
	}
	for _, s := range w.All {
		return s
	}
	panic("unreachable")
}

// world is a cloud, its provider, and a connection to that.
type world struct {
	*providertest.Cloud
	t      *testing.T
	target deliver.Target
	conn   deliver.Conn
	seq    uint64
	base   lb.Manifest

	patience time.Duration
	asked    func(balancer, request, result string, calls provider.Calls)
}

func newWorld(t *testing.T) *world {
	c, url := providertest.Serve(t)
	w := &world{Cloud: c, t: t, target: deliver.Target{
		Balancer: "edge", Cluster: "c1", Provider: &deliver.Provider{URL: url, Token: []byte(providertest.Token)},
	}, patience: time.Minute} // a cloud that does at once what it can is waited for
	w.dial()
	return w
}

// newHastyWorld has a Dialer as a controller has it.
func newHastyWorld(t *testing.T) *world {
	w := newWorld(t)
	w.patience = 0
	w.dial()
	return w
}

func (w *world) dial() {
	w.t.Helper()
	var err error
	if w.conn != nil {
		w.conn.Close()
	}
	if w.conn, err = (Dialer{Patience: w.patience, Asked: w.asked}).Dial(w.t.Context(), w.target); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { w.conn.Close() })
	w.base = lb.Manifest{}
}

func (w *world) apply(cfg *lb.Config) (host.Outcome, error) {
	w.t.Helper()
	set, err := new(lb.Encoder).Encode(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	w.seq++
	d := host.Delivery{Cluster: "c1", Epoch: host.Epoch{Term: 1, Seq: w.seq}, Base: w.base.Digest(), Change: lb.Diff(w.base, set), Want: set.Digest()}
	out, err := w.conn.Apply(w.t.Context(), d)
	w.base = set.Manifest()
	return out, err
}

// applied wants a delivery to prove everything.
func (w *world) applied(cfg *lb.Config) {
	w.t.Helper()
	out, err := w.apply(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	if len(out.Refused) > 0 || !mapsEqual(out.Live, out.Wanted) {
		w.t.Fatalf("wanted %v, live %v, refused %+v", out.Wanted, out.Live, out.Refused)
	}
}

// settles waits for jobs until everything that was delivered last is proved.
func (w *world) settles() {
	w.t.Helper()
	wait.For(w.t, func(context.Context) error {
		if s := w.status(); len(s.Refused) > 0 || !mapsEqual(s.Live, s.Wanted) {
			return fmt.Errorf("wanted %v, live %v, refused %+v", s.Wanted, s.Live, s.Refused)
		}
		return nil
	})
}

func (w *world) status() host.Status {
	w.t.Helper()
	s, err := w.conn.Status(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

func mapsEqual(a, b lb.Manifest) bool { return a.Digest() == b.Digest() }

func node(name, address string) lb.Node {
	return lb.Node{Name: name, IPv4: netip.MustParseAddr(address)}
}

func service(name string, nodePort uint16) *lb.Service {
	all := lb.Family{Targets: lb.Targets{All: true}, Clients: lb.Clients{Everybody: true}}
	return &lb.Service{ID: lb.ID{Namespace: "default", Name: name, UID: "uid-" + name}, IPv4: all, IPv6: all, Frontends: []lb.Frontend{
		frontend("192.0.2.1", 80, nodePort),
	}}
}

func frontend(address string, port, nodePort uint16) lb.Frontend {
	return lb.Frontend{Listener: lb.Listener{Address: netip.MustParseAddr(address), Port: port, Protocol: lb.TCP}, NodePort: nodePort, Settings: lb.Settings{
		Algorithm: lb.RoundRobin, Mode: lb.ModeTCP, SendProxy: lb.ProxyNone, ConnectTimeout: time.Second, IdleTimeout: time.Minute,
		HealthCheck: lb.HealthCheck{Type: lb.CheckAuto, Interval: 5 * time.Second, Timeout: time.Second, Rise: 2, Fall: 3},
	}}
}

func config(services ...*lb.Service) *lb.Config {
	return &lb.Config{Nodes: []lb.Node{node("n1", "10.0.0.1"), node("n2", "10.0.0.2")}, Services: services}
}

func TestApply_AServiceIsProvedByWhatIsReadBack(t *testing.T) {
	w := newWorld(t)
	w.applied(config(service("web", 30080)))
	s := w.one()
	if len(s.Families) != 1 || len(s.Families[0].Members) != 2 || s.Listeners[0].NodePort != 30080 || s.Families[0].Address.String() != "192.0.2.1" {
		t.Errorf("%+v", s)
	}
	puts := w.Puts
	w.applied(config(service("web", 30080)))
	more := config(service("web", 30080))
	more.Nodes = append(more.Nodes, node("n3", "10.0.0.3"))
	if w.applied(more); w.Puts != puts+1 || len(w.one().Families[0].Members) != 3 {
		t.Errorf("%d puts for a node, and %+v", w.Puts-puts, w.one())
	}
	if st := w.status(); st.Engine != Engine || st.EngineVersion != "test 7" || !st.Proved || st.Generation == "" || !mapsEqual(st.Live, st.Wanted) {
		t.Errorf("%+v", st)
	}
}

// Who wants no address is told the one that the cloud gave, once it is proved.
func TestApply_TellsWhatTheCloudGives(t *testing.T) {
	w := newWorld(t)
	web := service("web", 30080)
	web.Frontends = []lb.Frontend{frontend("0.0.0.0", 80, 30080), frontend("0.0.0.0", 443, 30443), frontend("::", 80, 30080)}
	key, id := lb.ServiceKey(web.ID), provider.ID{Service: web.ID.UID}
	w.applied(config(web))
	if s := w.one(); len(s.Families) != 2 || s.Families[0].Address.IsValid() || s.Families[1].Address.IsValid() || len(s.Listeners) != 2 {
		t.Errorf("%+v", s)
	}
	given := func() []provider.Address { return w.conn.(*conn).Given()[key] }
	want := []provider.Address{
		{Family: provider.IPv4, IP: providertest.Gives(id, provider.IPv4)}, {Family: provider.IPv6, IP: providertest.Gives(id, provider.IPv6)},
	}
	if !slices.Equal(given(), want) {
		t.Errorf("%v, want %v", given(), want)
	}
	named := []provider.Address{{Family: provider.IPv4, Hostname: "web.example.net"}, {Family: provider.IPv6, Hostname: "web.example.net"}}
	w.Addresses = named
	if w.status(); !slices.Equal(given(), named) {
		t.Errorf("%v, want %v", given(), named)
	}
	w.Addresses = []provider.Address{{Family: provider.IPv4, IP: netip.MustParseAddr("127.0.0.1")}, {Family: provider.IPv6, Hostname: "web.example.net"}}
	out, err := w.apply(config(web))
	if err != nil || len(out.Refused) != 1 || !strings.Contains(out.Refused[0].Message, "no client can be sent") || given() != nil {
		t.Errorf("%v %+v, given %v", err, out.Refused, given())
	}
}

// What somebody changes in the cloud is seen, and made good.
func TestStatus_SeesDrift(t *testing.T) {
	w := newWorld(t)
	cfg := config(service("web", 30080))
	w.applied(cfg)
	w.Lock()
	for id, s := range w.All {
		s.Listeners = append([]provider.Listener{}, s.Listeners...)
		s.Listeners[0].NodePort = 30099
		w.All[id] = s
	}
	w.Unlock()
	key := lb.ServiceKey(cfg.Services[0].ID)
	if sum, live := w.status().Live.Sums()[key]; !live || sum != (lb.Sum{}) {
		t.Errorf("drift is not seen: %v %v", live, sum)
	}
	w.applied(cfg)
	if w.one().Listeners[0].NodePort != 30080 {
		t.Error("drift stays")
	}
}

// A restart finds its own load balancers: those of Services that there are no longer, too.
func TestApply_WithdrawsWhatIsNotWanted(t *testing.T) {
	w := newHastyWorld(t)
	w.applied(config(service("web", 30080), service("old", 30081)))
	w.dial()
	if live := w.status().Live; live.Len() != 2 {
		t.Errorf("after a restart %v is live", live.Sums())
	}
	w.Lock()
	w.DeleteFault = func() error { return &provider.Error{Code: provider.Immutable, Message: "wait"} }
	w.Unlock()
	old := lb.ServiceKey(service("old", 1).ID)
	out, err := w.apply(config(service("web", 30080)))
	if err != nil || len(out.Refused) != 1 || out.Refused[0] != (lb.Refusal{Key: old, Reason: lb.RefusedPending, Message: "Immutable: wait"}) {
		t.Errorf("%v %+v", err, out.Refused)
	}
	if _, live := w.status().Live.Sums()[old]; !live {
		t.Error("its withdrawal is confirmed while it is there")
	}
	w.Lock()
	w.DeleteFault = nil
	w.Unlock()
	w.settles()
	if s := w.one(); s.Name != "web" {
		t.Errorf("%+v is left", s)
	}
}

// Two Balancers with one provider leave each other alone.
func TestBalancers_AreKeptApart(t *testing.T) {
	w := newWorld(t)
	w.applied(config(service("web", 30080)))
	w.target.Balancer = "other"
	w.dial()
	other := service("web2", 30081)
	w.applied(config(other))
	w.applied(config())
	if s := w.one(); s.Name != "web" {
		t.Errorf("%+v is left", s)
	}
}

func TestApply_TellsWhatTheCloudRefuses(t *testing.T) {
	for code, reason := range map[provider.Code]lb.RefusalReason{
		provider.AddressTaken: lb.RefusedUnavailable, provider.QuotaExceeded: lb.RefusedUnavailable, provider.Unsupported: lb.RefusedByEngine,
		provider.Invalid: lb.RefusedNotAdmitted, provider.Throttled: lb.RefusedPending, provider.Internal: lb.RefusedUnavailable,
	} {
		w := newHastyWorld(t)
		w.PutFault = func(s provider.Spec) (*provider.Observed, error) {
			if s.Name == "bad" {
				return nil, &provider.Error{Code: code, Message: "no luck"}
			}
			return nil, nil
		}
		out, err := w.apply(config(service("good", 30080), service("bad", 30081)))
		if err != nil {
			t.Fatal(code, err)
		}
		bad, good := lb.ServiceKey(service("bad", 1).ID), lb.ServiceKey(service("good", 1).ID)
		if len(out.Refused) != 1 || out.Refused[0].Key != bad || out.Refused[0].Reason != reason || out.Refused[0].Message != string(code)+": no luck" {
			t.Errorf("%s: %+v", code, out.Refused)
		}
		if out.Live.Sums()[good] != out.Wanted.Sums()[good] {
			t.Errorf("%s: its neighbour is not carried", code)
		}
		w.Lock()
		w.PutFault = nil
		w.Unlock()
		if _, err := w.apply(config(service("good", 30080), service("bad", 30081))); err != nil {
			t.Error(code, err)
		}
		w.settles()
	}
}

// What is live and cannot be more, as another flavor, is told, and not asked for again and again.
func TestApply_WhatCannotBeMoreIsAskedForOnce(t *testing.T) {
	w := newHastyWorld(t)
	puts := 0
	w.PutFault = func(s provider.Spec) (*provider.Observed, error) {
		puts++
		o := &provider.Observed{Spec: s}
		o.Spec.Flavor, o.State, o.Reason, o.Message = "small", provider.Live, provider.Unsupported, "its flavor is small"
		return o, nil
	}
	svc := service("web", 30080)
	svc.Flavor = "big"
	out, err := w.apply(config(svc))
	if err != nil || len(out.Refused) != 1 || out.Refused[0].Reason != lb.RefusedByEngine || out.Refused[0].Message != "Unsupported: its flavor is small" {
		t.Errorf("%v %+v", err, out.Refused)
	}
	w.Lock()
	defer w.Unlock()
	if puts != 1 {
		t.Errorf("%d requests", puts)
	}
}

// S18: a nodePort that a Service no longer has may be somebody else's, so nothing may go
// there any more, also where the change as such is refused.
func TestApply_LeavesNoOldNodePort(t *testing.T) {
	w := newWorld(t)
	old := service("web", 30080)
	old.Frontends = append(old.Frontends, frontend("192.0.2.1", 443, 30443))
	w.applied(config(old))
	changed := service("web", 30090) // port 80 has another nodePort
	changed.Frontends = append(changed.Frontends, frontend("192.0.2.1", 443, 30443))
	w.PutFault = func(s provider.Spec) (*provider.Observed, error) {
		for _, l := range s.Listeners {
			if l.NodePort == 30090 {
				return nil, &provider.Error{Code: provider.QuotaExceeded, Message: "no more"}
			}
		}
		return nil, nil
	}
	out, err := w.apply(config(changed))
	if err != nil || len(out.Refused) != 1 || !out.Refused[0].OlderStays {
		t.Fatalf("%v %+v", err, out.Refused)
	}
	if s := w.one(); len(s.Listeners) != 1 || s.Listeners[0].NodePort != 30443 {
		t.Errorf("what stays: %+v", s.Listeners)
	}
	for range 2 {
		if _, err = w.apply(config(service("web", 30090))); err == nil { // of the older one nothing is right
			break
		}
	}
	if len(w.All) > 0 {
		t.Errorf("%v, and what stays: %+v", err, w.All)
	}
}

// Ports of the model that the cloud leaves out are told one by one, and the rest is proved.
func TestApply_RefusedListeners(t *testing.T) {
	w := newWorld(t)
	w.PutFault = func(s provider.Spec) (*provider.Observed, error) {
		s.Listeners = s.Listeners[:1]
		o := providertest.Observed(provider.ID{}, s)
		o.Refused = []provider.Refusal{{Port: 443, Protocol: provider.TCP, Reason: provider.QuotaExceeded, Message: "one is enough"}}
		return &o, nil
	}
	svc := service("web", 30080)
	svc.Frontends = append(svc.Frontends, frontend("192.0.2.1", 443, 30443), frontend("2001:db8::1", 80, 30080), frontend("2001:db8::1", 443, 30443))
	out, err := w.apply(config(svc))
	if err != nil || len(out.Refused) != 2 || out.Live.Sums()[out.Refused[0].Key] != out.Wanted.Sums()[out.Refused[0].Key] {
		t.Fatalf("%v %+v", err, out)
	}
	for _, r := range out.Refused {
		if r.Listener.Port != 443 || r.Message != "QuotaExceeded: one is enough" {
			t.Errorf("%+v", r)
		}
	}
}

func TestDial_SaysWhatIsWrong(t *testing.T) {
	w := newWorld(t)
	for name, c := range map[string]struct {
		provider deliver.Provider
		reason   deliver.Reason
		says     string
	}{
		"another token":   {deliver.Provider{URL: w.target.Provider.URL, Token: []byte("other")}, deliver.ReasonKeyRefused, "refuses the token"},
		"nobody there":    {deliver.Provider{URL: "http://127.0.0.1:1"}, deliver.ReasonUnreachable, "cannot be reached"},
		"no provider":     {deliver.Provider{URL: other(t)}, deliver.ReasonUnreachable, "is it one?"},
		"no certificates": {deliver.Provider{URL: "https://127.0.0.1:1", Roots: []byte("x")}, deliver.ReasonSecret, "no certificate in PEM"},
	} {
		target := w.target
		target.Provider = &c.provider
		_, err := Dialer{}.Dial(t.Context(), target)
		if e, ok := err.(*deliver.Error); !ok || e.Reason != c.reason || !strings.Contains(e.Message, c.says) {
			t.Errorf("%s: %#v", name, err)
		}
	}
}

// other answers, and is no provider.
func other(t *testing.T) string {
	server := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(server.Close)
	return server.URL
}

// Who is not the newest leader changes nothing.
func TestApply_RefusesAnOldEpoch(t *testing.T) {
	w := newWorld(t)
	w.applied(config(service("web", 30080)))
	w.seq = 0
	_, err := w.apply(config())
	if e, ok := err.(*host.Error); !ok || e.Code != host.CodeStaleEpoch {
		t.Error(err)
	}
}
