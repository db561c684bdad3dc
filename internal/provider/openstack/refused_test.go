package openstack

import (
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/external-lb/external-lb/provider"
)

const quota = `403 {"faultstring": "Quota has been met for resources: x"}`

// doing makes the next change of a tree at an API that refuses some calls, and lists those that it got.
func doing(t *testing.T, is *tree, want provider.Spec, refuses map[string]string) (s *session, asked []string, changed bool) {
	t.Helper()
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		call := r.Method + " " + strings.TrimPrefix(r.URL.Path, "/v2.0/lbaas/")
		asked = append(asked, call)
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		for of, answer := range refuses {
			method, part, _ := strings.Cut(of, " ")
			path, with, _ := strings.Cut(part, " ")
			if call == method+" "+path && strings.Contains(string(body), with) {
				status := map[string]int{"403": http.StatusForbidden, "400": http.StatusBadRequest, "404": http.StatusNotFound, "409": http.StatusConflict}[answer[:3]]
				w.WriteHeader(status)
				_, _ = io.WriteString(w, answer[4:])
				return
			}
		}
		done := http.StatusAccepted
		if r.Method == http.MethodPost {
			done = http.StatusCreated
		}
		w.WriteHeader(done)
		_, _ = io.WriteString(w, "{}")
	}))
	defer api.Close()
	s = &session{Cloud: &Cloud{API: WithoutCredentials(api.URL, "p"), Options: Options{MemberSubnet: is.subnet}}}
	changed, err := s.next(t.Context(), is, want)
	if err != nil {
		t.Fatal(err)
	}
	return s, asked, changed
}

// A port that Octavia does not take costs itself alone: the others are made and changed, and what one says of a
// quota is not asked again for the next one.
func TestNext_WhatIsRefusedForAPortCostsThatPort(t *testing.T) {
	for what, c := range map[string]struct {
		begin   func(*tree, *provider.Spec)
		refuses map[string]string
		asked   []string
		refused []uint16
		changed bool
	}{
		"a pool over quota, twice": {
			func(is *tree, _ *provider.Spec) { is.listeners, is.pools = is.listeners[:1], is.pools[:1] },
			map[string]string{"POST pools": quota}, []string{"POST pools"}, []uint16{80, 443}, false,
		},
		"a monitor over quota, and a listener": {
			func(is *tree, _ *provider.Spec) { is.pools[0].monitor, is.listeners = nil, is.listeners[2:] },
			map[string]string{"POST healthmonitors": quota}, []string{"POST healthmonitors", "POST listeners"}, []uint16{443}, true,
		},
		"a listener that cannot be": {
			func(is *tree, _ *provider.Spec) { is.listeners = is.listeners[2:] },
			map[string]string{"POST listeners :443": `400 {"faultstring": "no"}`}, []string{"POST listeners", "POST listeners"}, []uint16{443}, true,
		},
		"members over quota": {
			func(is *tree, _ *provider.Spec) {
				is.pools[0].members, is.pools[1].members = is.pools[0].members[1:], is.pools[1].members[1:]
			},
			map[string]string{"PUT pools/p0/members": quota}, []string{"PUT pools/p0/members", "PUT pools/p1/members"}, []uint16{443}, true,
		},
		"a setting": {
			func(is *tree, _ *provider.Spec) { is.listeners[0].ConnLimit, is.listeners[1].ConnLimit = 1, 1 },
			map[string]string{"PUT listeners/l0": `400 {"faultstring": "no"}`}, []string{"PUT listeners/l0", "PUT listeners/l1"}, []uint16{443}, true,
		},
	} {
		want := spec()
		is := made(want)
		c.begin(is, &want)
		s, asked, changed := doing(t, is, want, c.refuses)
		var refused []uint16
		for _, r := range s.refused {
			refused = append(refused, r.Port)
		}
		if !slices.Equal(asked, c.asked) || !slices.Equal(refused, c.refused) || changed != c.changed || int(s.calls.Writes) != len(asked) {
			t.Errorf("%s: asked %q, refused %v, changed %t, %d writes", what, asked, s.refused, changed, s.calls.Writes)
		}
	}
}

// Where the members that are wanted are refused, a nodePort that is gone gets nothing nevertheless.
func TestMembers_OldOnesGoWhereNewOnesAreRefused(t *testing.T) {
	want := spec()
	is := made(want)
	is.pools[0].members[1].ProtocolPort = 31000
	s, asked, changed := doing(t, is, want, map[string]string{"PUT pools/p0/members 10.0.0.1": quota})
	if _, _, again := doing(t, made(want), want, nil); again {
		t.Error("what is right is changed")
	}
	if len(asked) != 2 || !changed || len(s.refused) != 1 {
		t.Errorf("asked %q, changed %t, refused %v", asked, changed, s.refused)
	}
}

// What is told is why Octavia refuses a port, and with a port that is there, that it is not as it is wanted.
func TestRest_TellsWhyAPortIsRefused(t *testing.T) {
	want := spec()
	refusal := []provider.Refusal{{Port: 443, Protocol: provider.TCP, Reason: provider.QuotaExceeded, Message: "no more"}}
	for what, c := range map[string]struct {
		begin func(*tree)
		state provider.State
	}{
		"it is not there":  {func(is *tree) { is.listeners = is.listeners[1:] }, provider.Live},
		"it is there":      {func(is *tree) { is.pools[0].monitor = nil }, provider.Pending},
		"another in ERROR": {func(is *tree) { is.listeners = is.listeners[1:]; is.listeners[0].ProvisioningStatus = "ERROR" }, provider.Live},
	} {
		is := made(want)
		c.begin(is)
		o := is.observed(web)
		s := &session{refused: slices.Clone(refusal)}
		if err := s.rest(is, want, &o); err != nil {
			t.Fatal(err)
		}
		proved := o.Spec.Digest() == want.Without(o.Refused).Digest()
		if o.State != c.state || o.Refused[0] != refusal[0] || proved != (c.state == provider.Live) || (o.Message != "") == proved || o.RetryAfterSeconds != 30 {
			t.Errorf("%s: %+v", what, o)
		}
		if n := len(o.Refused); n != map[bool]int{true: 2, false: 1}[what == "another in ERROR"] {
			t.Errorf("%s: %d refused", what, n)
		}
	}
	o := made(want).observed(web)
	err := (&session{refused: append(refusal, refusal[0], refusal[0])}).rest(made(want), want, &o)
	if !provider.Is(err, provider.QuotaExceeded) {
		t.Errorf("all refused: %v", err)
	}
}
