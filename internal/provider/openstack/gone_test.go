package openstack

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/gophercloud/gophercloud/v2"

	"github.com/external-lb/external-lb/provider"
)

// A load balancer that goes while a list is read, or that cannot be read, costs the list itself alone: it is Pending,
// and nobody takes what is not read for what it carries. Where Octavia answers nothing, there is no list.
func TestList_WhatCannotBeReadIsPending(t *testing.T) {
	const whole = `{"id": "whole", "provisioning_status": "ACTIVE", "vip_address": "203.0.113.1", "admin_state_up": true, "tags": ["external-lb:cluster=c1", "external-lb:service=whole", "external-lb:name=default/whole"]}`
	other := strings.ReplaceAll(whole, "whole", "other")
	const listener = `{"listeners": [{"id": "l", "protocol": "TCP", "protocol_port": 80, "provisioning_status": "ACTIVE", "admin_state_up": true, "default_pool_id": "p"}]}`
	const pool = `{"pools": [{"id": "p", "name": "80 TCP", "protocol": "TCP", "description": "30080", "healthmonitor_id": "m"}]}`
	for what, c := range map[string]struct {
		at     string // of the other one, from where it answers with the status
		status int
		body   string
		reason provider.Code // "": there is no list
	}{
		"it is gone":          {"listeners", 404, `{"faultstring": "Load Balancer other not found."}`, provider.Immutable},
		"its pool goes":       {"members", 404, `{"faultstring": "Pool p not found."}`, provider.Immutable},
		"its check goes":      {"healthmonitors", 404, `{"faultstring": "Health Monitor m not found."}`, provider.Immutable},
		"something else goes": {"pools", 500, `{}`, provider.Unavailable},
		"nobody may read it":  {"pools", 403, `{}`, provider.Internal},
		"it is no JSON":       {"pools", 200, `no JSON`, provider.Unavailable},
		"it is other JSON":    {"pools", 200, `{"pools": 7}`, provider.Unavailable},
		"too many requests":   {"pools", 429, `{}`, ""},
		"nobody answers":      {"pools", 0, "", ""},
	} {
		api := &answers{say: func(r *http.Request) (int, string) {
			part := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
			if part == "m" {
				part = "healthmonitors"
			}
			of := r.URL.Query().Get("loadbalancer_id")
			if part == "loadbalancers" {
				return 200, `{"loadbalancers": [` + other + "," + whole + `]}`
			}
			if of == "whole" {
				return 200, `{"` + part + `": []}`
			}
			if part == c.at {
				return c.status, c.body
			}
			return 200, map[string]string{"listeners": listener, "pools": pool, "members": `{"members": []}`}[part]
		}}
		all, err := (&Cloud{API: api.client()}).List(t.Context(), web.Cluster)
		if c.reason == "" {
			if err == nil {
				t.Errorf("%s: %+v", what, all)
			}
			continue
		}
		i := slices.IndexFunc(all, func(o provider.Observed) bool { return o.Service == "other" })
		if err != nil || len(all) != 2 || i < 0 {
			t.Errorf("%s: %+v, %v", what, all, err)
			continue
		}
		if o := all[i]; o.State != provider.Pending || len(o.Spec.Listeners) > 0 || o.Reason != c.reason || o.Message == "" || o.Calls.Reads == 0 || o.Spec.Name != "other" {
			t.Errorf("%s: %+v", what, o)
		}
	}
}

// answers is an Octavia that says something to each request; with the status 0, it does not answer.
type answers struct {
	say func(*http.Request) (status int, body string)
}

// RoundTrip implements http.RoundTripper.
func (a *answers) RoundTrip(r *http.Request) (*http.Response, error) {
	status, body := a.say(r)
	if status == 0 {
		return nil, io.ErrUnexpectedEOF
	}
	return &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
}

func (a *answers) client() *gophercloud.ServiceClient {
	api := WithoutCredentials("http://octavia", "project")
	api.HTTPClient = http.Client{Transport: a}
	return api
}
