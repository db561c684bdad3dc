package openstack

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/listeners"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/loadbalancers"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/monitors"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/pools"

	"github.com/external-lb/external-lb/internal/provider/sources"
	"github.com/external-lb/external-lb/provider"
)

var web = provider.ID{Cluster: "c1", Service: "web"}

func spec() provider.Spec {
	settings := provider.Settings{Algorithm: provider.LeastConnections, Mode: provider.ModeTCP, SendProxy: provider.ProxyV2,
		ConnectTimeoutMilliseconds: 1000, IdleTimeoutMilliseconds: 60000, MaxConnections: 7,
		HealthCheck: provider.HealthCheck{Type: provider.CheckHTTP, Path: "/healthz", Port: 10256,
			IntervalMilliseconds: 5000, TimeoutMilliseconds: 2000, Rise: 2, Fall: 3}}
	other := settings
	other.SendProxy, other.MaxConnections, other.HealthCheck = provider.ProxyNone, 0, provider.HealthCheck{Type: provider.CheckNone}
	return provider.Spec{
		Namespace: "default", Name: "web",
		Families: []provider.Family{{Family: provider.IPv4, Sources: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")},
			Members: []provider.Member{{Address: netip.MustParseAddr("10.0.0.2"), Weight: 3}, {Address: netip.MustParseAddr("10.0.0.1"), Weight: 1}}}},
		Listeners: []provider.Listener{
			{Port: 443, Protocol: provider.TCP, NodePort: 30443, Settings: settings},
			{Port: 80, Protocol: provider.TCP, NodePort: 30080, Settings: other},
			{Port: 443, Protocol: provider.UDP, NodePort: 30444, Settings: provider.Settings{Algorithm: provider.SourceHash, Mode: provider.ModeTCP, SendProxy: provider.ProxyNone,
				HealthCheck: provider.HealthCheck{Type: provider.CheckHTTP, Path: "/healthz", Port: 10256, IntervalMilliseconds: 5000, TimeoutMilliseconds: 2000, Fall: 3}}},
		},
	}
}

// made is what Octavia has after all that we would ask of it.
func made(s provider.Spec) *tree { return madeThrough("", s) }

// madeThrough is that where members are reached through a subnet.
func madeThrough(subnet string, s provider.Spec) *tree {
	t := &tree{subnet: subnet, lb: loadbalancers.LoadBalancer{ProvisioningStatus: active, VipAddress: "203.0.113.7", AdminStateUp: true,
		Tags: []string{clusterTag + "c1", serviceTag + "web", nameTag + s.Namespace + "/" + s.Name}}}
	if s.Flavor != "" {
		t.lb.Tags = append(t.lb.Tags, flavorTag+s.Flavor)
	}
	for i, l := range s.Listeners {
		lo, po := listenerOpts(s, l), poolOpts(s, l)
		p := pool{Pool: pools.Pool{ID: fmt.Sprint("p", i), Name: po.Name, Description: po.Description, Protocol: string(po.Protocol),
			LBMethod: string(po.LBMethod), AdminStateUp: true, ProvisioningStatus: active}}
		for _, m := range (Options{MemberSubnet: subnet}).wanted(s, l) {
			made := pools.Member{Address: m.Address, ProtocolPort: m.ProtocolPort, Weight: *m.Weight, AdminStateUp: true, ProvisioningStatus: active, SubnetID: subnet}
			if m.MonitorPort != nil {
				made.MonitorPort = *m.MonitorPort
			}
			p.members = append(p.members, made)
		}
		if m := monitorOpts(l); m != nil {
			p.monitor = &monitors.Monitor{Type: m.Type, Delay: m.Delay, Timeout: m.Timeout, MaxRetries: m.MaxRetries,
				MaxRetriesDown: m.MaxRetriesDown, URLPath: m.URLPath, ExpectedCodes: m.ExpectedCodes, HTTPMethod: m.HTTPMethod, AdminStateUp: true, ProvisioningStatus: active}
		}
		t.pools = append(t.pools, p)
		at := listeners.Listener{ID: fmt.Sprint("l", i), ProvisioningStatus: active, Protocol: string(lo.Protocol), ProtocolPort: lo.ProtocolPort,
			DefaultPoolID: p.ID, ConnLimit: *lo.ConnLimit, AllowedCIDRs: lo.AllowedCIDRs, AdminStateUp: true,
			TimeoutClientData: 50_000, TimeoutMemberData: 50_000, TimeoutMemberConnect: 5000} // what Octavia takes where it is not told
		if l.Protocol == provider.TCP {
			at.TimeoutClientData, at.TimeoutMemberData, at.TimeoutMemberConnect = *lo.TimeoutClientData, *lo.TimeoutMemberData, *lo.TimeoutMemberConnect
		}
		t.listeners = append(t.listeners, at)
	}
	return t
}

// What we ask for is what we read back.
func TestObserved_IsWhatWasAskedFor(t *testing.T) {
	for what, change := range map[string]func(*provider.Spec){
		"as it is":            func(*provider.Spec) {},
		"no member":           func(s *provider.Spec) { s.Families[0].Members = nil },
		"nobody":              func(s *provider.Spec) { s.Families[0].Sources = nil },
		"everybody":           func(s *provider.Spec) { s.Families[0].Sources = []netip.Prefix{sources.Everybody} },
		"one listener":        func(s *provider.Spec) { s.Listeners = s.Listeners[:1] },
		"affinity":            func(s *provider.Spec) { s.AffinitySeconds = 10800 },
		"a flavor":            func(s *provider.Spec) { s.Flavor = "big" },
		"affinity, no member": func(s *provider.Spec) { s.AffinitySeconds, s.Families[0].Members = 60, nil },
	} {
		want := spec()
		change(&want)
		o := made(want).observed(web)
		if o.State != provider.Live || o.Spec.Digest() != want.Digest() || o.Spec.Name != "web" || o.Spec.Namespace != "default" {
			t.Errorf("%s: %+v", what, o)
		}
	}
}

// Whatever somebody changes in Octavia makes another digest, or no longer Live.
func TestObserved_SeesDrift(t *testing.T) {
	want := spec()
	want.AffinitySeconds = 10800
	for what, change := range map[string]func(*tree){
		"a member less": func(t *tree) { t.pools[0].members = t.pools[0].members[1:] },
		"a member more": func(t *tree) {
			t.pools[1].members = append(t.pools[1].members, pools.Member{Address: "192.0.2.1", ProtocolPort: 30080, AdminStateUp: true})
		},
		"another nodePort":                            func(t *tree) { t.pools[0].members[1].ProtocolPort++ },
		"a member off":                                func(t *tree) { t.pools[0].members[0].AdminStateUp = false },
		"the check's port of one member":              func(t *tree) { t.pools[0].members[0].MonitorPort = 0 },
		"a nodePort that is another one by its bits":  func(t *tree) { t.pools[0].members[0].ProtocolPort += 1 << 16 },
		"an interval that is another one by its bits": func(t *tree) { t.pools[0].monitor.Delay += 1 << 32 },
		"a port that is another one by its bits":      func(t *tree) { t.listeners[0].ProtocolPort += 1 << 16 },
		"a listener that is a stranger's": func(t *tree) {
			t.listeners = append(t.listeners, listeners.Listener{ProvisioningStatus: active, Protocol: "TERMINATED_HTTPS", ProtocolPort: 8443, DefaultPoolID: "p1", AdminStateUp: true})
		},
		"a listener without a pool": func(t *tree) {
			t.listeners = append(t.listeners, listeners.Listener{ProvisioningStatus: active, Protocol: "TCP", ProtocolPort: 22, AdminStateUp: true})
		},
		"what the pool says": func(t *tree) { t.pools[1].Description = "30080 0 7" },
		"the pool's name":    func(t *tree) { t.pools[1].Name = "mine" },
		"everybody, in words": func(t *tree) {
			t.listeners[0].AllowedCIDRs = append(t.listeners[0].AllowedCIDRs, sources.Nobody.String())
		},
		"a weight":             func(t *tree) { t.pools[0].members[0].Weight++ },
		"the algorithm":        func(t *tree) { t.pools[0].LBMethod = "SOURCE_IP_PORT" },
		"no affinity":          func(t *tree) { t.pools[0].LBMethod = "ROUND_ROBIN" },
		"another affinity":     func(t *tree) { t.pools[0].Description = "30443 10256 60 LeastConnections" },
		"the pool's protocol":  func(t *tree) { t.pools[0].Protocol = "TCP" },
		"a pool off":           func(t *tree) { t.pools[0].AdminStateUp = false },
		"no monitor":           func(t *tree) { t.pools[0].monitor = nil },
		"another monitor":      func(t *tree) { t.pools[1].monitor = &monitors.Monitor{Type: "PING", AdminStateUp: true} },
		"through a subnet":     func(t *tree) { t.pools[0].members[1].SubnetID = "b" },
		"the check's path":     func(t *tree) { t.pools[0].monitor.URLPath = "/" },
		"the check's codes":    func(t *tree) { t.pools[0].monitor.ExpectedCodes = "200-499" },
		"the check's method":   func(t *tree) { t.pools[0].monitor.HTTPMethod = "HEAD" },
		"sessions":             func(t *tree) { t.pools[1].Persistence.Type = "SOURCE_IP" },
		"a listener off":       func(t *tree) { t.listeners[0].AdminStateUp = false },
		"a listener less":      func(t *tree) { t.listeners = t.listeners[1:] },
		"another pool":         func(t *tree) { t.listeners[0].DefaultPoolID = "p1" },
		"open to everybody":    func(t *tree) { t.listeners[0].AllowedCIDRs = nil },
		"a limit":              func(t *tree) { t.listeners[0].ConnLimit = 1 },
		"a timeout":            func(t *tree) { t.listeners[0].TimeoutClientData = 1 },
		"a member in ERROR":    func(t *tree) { t.pools[0].members[0].ProvisioningStatus = "ERROR" },
		"a listener in ERROR":  func(t *tree) { t.listeners[0].ProvisioningStatus = "ERROR" },
		"off":                  func(t *tree) { t.lb.AdminStateUp = false },
		"ERROR":                func(t *tree) { t.lb.ProvisioningStatus = "ERROR" },
		"another with the tag": func(t *tree) { t.others = []string{"x"} },
	} {
		is := made(want)
		change(is)
		if o := is.observed(web); o.State == provider.Live && o.Spec.Digest() == want.Digest() {
			t.Errorf("not seen: %s", what)
		}
	}
}

func TestSaid_HasTheCodeOfTheContract(t *testing.T) {
	for text, want := range map[string]provider.Code{
		`PUT 409 {"faultstring": "Load Balancer x is immutable and cannot be updated."}`: provider.Immutable,
		`PUT 409 {"faultstring": "The address is in use."}`:                              provider.AddressTaken,
		`PUT 403 {"faultstring": "Quota has been met for resources: Load Balancer"}`:     provider.QuotaExceeded,
		`PUT 403 {"faultstring": "Policy does not allow this request to be performed."}`: provider.Internal,
		`PUT 400 {"faultstring": "Validation failure: x"}`:                               provider.Unsupported,
		`PUT 404 {"faultstring": "pool x not found."}`:                                   provider.Immutable,
		`PUT 404 {"faultstring": "Subnet x not found."}`:                                 provider.Unsupported,
		`PUT 503 no JSON`: provider.Throttled,
		`GET 500 {}`:      provider.Unavailable,
		`PUT 500 {}`:      provider.Internal,
		`PUT 500 {"faultstring": "IP address 203.0.113.1 already allocated in subnet x"}`: provider.AddressTaken,
	} {
		method, answered, _ := strings.Cut(text, " ")
		status, body, _ := strings.Cut(answered, " ")
		answer := gophercloud.ErrUnexpectedResponseCode{Method: method, Body: []byte(body), ResponseHeader: http.Header{"Retry-After": {"7"}}}
		if _, err := fmt.Sscan(status, &answer.Actual); err != nil {
			t.Fatal(err)
		}
		err := said(fmt.Errorf("wrapped: %w", answer))
		if !provider.Is(err, want) {
			t.Errorf("%s: %v", text, err)
		}
		if e, _ := errors.AsType[*provider.Error](err); want == provider.Throttled && e.RetryAfterSeconds != 7 {
			t.Errorf("try again after %d s", e.RetryAfterSeconds)
		}
	}
	if err := said(errors.New("connection refused")); !provider.Is(err, provider.Unavailable) {
		t.Error(err)
	}
}

func TestPossible_SaysWhatOctaviaCannotHold(t *testing.T) {
	if err := possible(spec()); err != nil {
		t.Error(err)
	}
	for what, change := range map[string]func(*provider.HealthCheck){
		"half a second":   func(c *provider.HealthCheck) { c.IntervalMilliseconds = 2500 },
		"a long timeout":  func(c *provider.HealthCheck) { c.TimeoutMilliseconds = 6000 },
		"eleven in a row": func(c *provider.HealthCheck) { c.Fall = 11 },
	} {
		s := spec()
		if change(&s.Listeners[0].Settings.HealthCheck); !provider.Is(possible(s), provider.Unsupported) {
			t.Errorf("taken: %s", what)
		}
	}
}

func TestCapabilities_AreOfTheContract(t *testing.T) {
	can, err := (&Cloud{}).Capabilities(t.Context())
	if err != nil || can.Check() != nil {
		t.Error(err, can.Check())
	}
}
