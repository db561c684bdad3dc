package openstack

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/listeners"

	"github.com/external-lb/external-lb/internal/provider/providertest"
	"github.com/external-lb/external-lb/provider"
)

// onOctavia is a Cloud whose Octavia answers out of one text: each request with the part that it asks for.
func onOctavia(body []byte) (*Cloud, *providertest.API) {
	var all map[string]json.RawMessage
	_ = json.Unmarshal(body, &all) // what is no JSON has no parts
	api := &providertest.API{Read: func(r *http.Request) ([]byte, bool) {
		for _, part := range []string{"members", "healthmonitor", "pools", "listeners", "loadbalancers"} {
			if strings.Contains(r.URL.Path, "/"+part) {
				return slices.Concat([]byte(`{"`+part+`":`), all[part], []byte(`}`)), r.Method == http.MethodGet
			}
		}
		return nil, false
	}}
	client := WithoutCredentials("http://octavia", "project")
	client.HTTPClient = http.Client{Transport: api}
	client.ProviderClient = &gophercloud.ProviderClient{HTTPClient: client.HTTPClient}
	return &Cloud{API: client, Options: Options{Subnet: "subnet", Flavors: map[string]string{"big": "flavor"}}}, api
}

// octavia is what Octavia says of what was made for a Spec whose Listeners have the same check. So all pools
// have the same members.
func octavia(t testing.TB, s provider.Spec) []byte {
	t.Helper()
	is := made(s)
	all := map[string]any{"loadbalancers": []any{map[string]any{"id": "lb", "provisioning_status": is.lb.ProvisioningStatus, "vip_address": is.lb.VipAddress,
		"admin_state_up": true, "tags": is.lb.Tags, "created_at": "2026-01-02T03:04:05"}}}
	var at, pools []any
	for _, l := range is.listeners {
		at = append(at, map[string]any{"id": l.ID, "provisioning_status": l.ProvisioningStatus, "protocol": l.Protocol, "protocol_port": l.ProtocolPort,
			"default_pool_id": l.DefaultPoolID, "connection_limit": l.ConnLimit, "allowed_cidrs": l.AllowedCIDRs, "admin_state_up": true,
			"timeout_client_data": l.TimeoutClientData, "timeout_member_data": l.TimeoutMemberData, "timeout_member_connect": l.TimeoutMemberConnect})
	}
	for _, p := range is.pools {
		of := map[string]any{"id": p.ID, "name": p.Name, "description": p.Description, "protocol": p.Protocol, "lb_algorithm": p.LBMethod,
			"admin_state_up": true, "provisioning_status": active}
		if m := p.monitor; m != nil {
			of["healthmonitor_id"] = "m"
			all["healthmonitor"] = map[string]any{"id": "m", "type": m.Type, "delay": m.Delay, "timeout": m.Timeout, "max_retries": m.MaxRetries, "max_retries_down": m.MaxRetriesDown,
				"url_path": m.URLPath, "expected_codes": m.ExpectedCodes, "http_method": m.HTTPMethod, "admin_state_up": true, "provisioning_status": active}
		}
		var members []any
		for _, m := range p.members {
			members = append(members, map[string]any{"address": m.Address, "protocol_port": m.ProtocolPort, "weight": m.Weight, "monitor_port": m.MonitorPort,
				"admin_state_up": true, "provisioning_status": active})
		}
		pools, all["members"] = append(pools, of), members
	}
	all["listeners"], all["pools"] = at, pools
	out, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// few are Specs of which octavia can tell.
func few() (out []provider.Spec) {
	for i := range spec().Listeners {
		s := spec()
		s.Listeners = s.Listeners[i : i+1]
		out = append(out, s)
	}
	sticky := out[0]
	sticky.AffinitySeconds, sticky.Flavor = 60, "big"
	return append(out, sticky)
}

// What the fuzzer begins with is what it is about: load balancers that carry what is wanted.
func TestOctavia_TellsOfWhatWasMade(t *testing.T) {
	for _, s := range few() {
		cloud, api := onOctavia(octavia(t, s))
		if o, err := cloud.Get(t.Context(), web); err != nil || o.Spec.Digest() != s.Digest() || !api.Settled(t, cloud, web) {
			t.Errorf("%+v is read back as %+v, %v", s, o, err)
		}
	}
}

// FuzzAnswers: whatever Octavia has, two readers of it agree: who reads it back, and who changes it.
func FuzzAnswers(f *testing.F) {
	for _, s := range few() {
		f.Add(octavia(f, s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		cloud, api := onOctavia(body)
		// A pool that no listener has carries nothing, and goes with the next change.
		if is, err := (&session{Cloud: cloud}).read(t.Context(), web); err == nil && !slices.ContainsFunc(is.pools, func(p pool) bool {
			return !slices.ContainsFunc(is.listeners, func(l listeners.Listener) bool { return l.DefaultPoolID == p.ID })
		}) {
			api.Settled(t, cloud, web)
		}
		if _, err := cloud.List(t.Context(), web.Cluster); err != nil {
			if _, told := err.(*provider.Error); !told && len(err.Error()) > 1<<20 {
				t.Errorf("%d bytes of an error", len(err.Error()))
			}
		}
	})
}

// FuzzRefusals: whatever Octavia says in place of an answer, it is told in the words of the contract.
func FuzzRefusals(f *testing.F) {
	api := new(providertest.Refusal)
	octavia := WithoutCredentials("http://octavia", "project")
	octavia.HTTPClient = http.Client{Transport: api}
	octavia.ProviderClient = &gophercloud.ProviderClient{HTTPClient: octavia.HTTPClient}
	cloud := &Cloud{API: octavia, Options: Options{Subnet: "subnet"}}
	f.Add(http.StatusForbidden, "", []byte(`{"faultcode":"Client","faultstring":"Quota has been met for resources: Load Balancer"}`))
	f.Add(http.StatusNotFound, "", []byte(`{"faultstring":"Subnet 0f0f not found."}`))
	f.Add(http.StatusConflict, "", []byte(`{"faultstring":"Load Balancer 0f0f is immutable and cannot be updated."}`))
	f.Add(http.StatusTooManyRequests, "99999999999", []byte(`<html>`))
	f.Add(http.StatusServiceUnavailable, "Fri, 31 Dec 9999 23:59:59 GMT", []byte(`{"faultstring":[]}`))
	f.Add(http.StatusInternalServerError, "-1", []byte(`{"faultstring":"\u0000\u202e"}`))
	f.Fuzz(func(t *testing.T, status int, after string, body []byte) { api.Told(t, cloud, status, after, body) })
}
