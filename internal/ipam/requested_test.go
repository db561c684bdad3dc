package ipam

import (
	"testing"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/builder"
)

func TestS30_ARequestedAddressIsHonoured(t *testing.T) {
	c := newCluster(t, builder.AddressPool("auto", "192.0.2.0/28"), builder.AddressPool("manual", "198.51.100.0/28").Manual())
	s1, s2 := c.add("s1"), c.add("s2")
	s1.Requested = addrs("192.0.2.9")
	s2.Requested = addrs("198.51.100.3")
	c.publish()
	c.want(s1, "192.0.2.9")
	c.want(s2, "198.51.100.3")
	// the request goes, the address stays
	s1.Requested, s2.Requested = nil, nil
	c.publish()
	c.want(s1, "192.0.2.9")
	c.want(s2, "198.51.100.3")
	c.wantNotice(s2, "")
}

func TestS30_ARequestedAddressIsRefusedNeverReplaced(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*Request)
		reason string
		texts  []string
	}{
		"in no pool": {
			func(r *Request) { r.Requested = addrs("203.0.113.1") },
			v1alpha1.ReasonAddressUnavailable, []string{"no AddressPool of this Balancer has 203.0.113.1"},
		},
		"held, and not shared": {
			func(r *Request) { r.Requested, r.Ports = addrs("192.0.2.0"), ports(81) },
			v1alpha1.ReasonAddressUnavailable, []string{"192.0.2.0 is held by Service default/holder", "sharing None"},
		},
		"its port is held": {
			func(r *Request) { r.Requested, r.Ports = addrs("192.0.2.32"), ports(443, 80) },
			v1alpha1.ReasonPortConflict, []string{"192.0.2.32:80/TCP is held by Service default/sharer"},
		},
		"the labels forbid it": {
			func(r *Request) { r.Requested = addrs("192.0.2.64") },
			v1alpha1.ReasonAddressUnavailable, []string{"192.0.2.64", "serviceSelector of AddressPool gold"},
		},
		"the namespace forbids it": {
			func(r *Request) { r.Requested = addrs("192.0.2.96") },
			v1alpha1.ReasonAddressUnavailable, []string{"192.0.2.96", "namespaceSelector of AddressPool team"},
		},
		"another pool is named": {
			func(r *Request) { r.Requested, r.Pool = addrs("192.0.2.5"), "shared" },
			v1alpha1.ReasonAddressUnavailable, []string{"192.0.2.5 is in AddressPool plain", "names \"shared\""},
		},
		"of a family that the Service has not": {
			func(r *Request) { r.Requested = addrs("192.0.2.5", "2001:db8::1") },
			v1alpha1.ReasonAddressUnavailable, []string{"2001:db8::1", "spec.ipFamilies has no IPv6"},
		},
		"two of a family": {
			func(r *Request) { r.Requested = addrs("192.0.2.5", "192.0.2.6") },
			v1alpha1.ReasonInvalidAnnotation, []string{"192.0.2.5 and 192.0.2.6 are both IPv4"},
		},
		"with a zone": {
			func(r *Request) { r.Requested = addrs("fe80::1%eth0") },
			v1alpha1.ReasonAddressUnavailable, []string{"fe80::1%eth0"},
		},
		"no family": {
			func(r *Request) { r.Families = dual("", "IPv5") },
			v1alpha1.ReasonInvalidSpec, []string{"spec.ipFamilies"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t,
				builder.AddressPool("plain", "192.0.2.0/28"), builder.AddressPool("shared", "192.0.2.32/28").Shared(),
				builder.AddressPool("gold", "192.0.2.64/28").Services("tier", "gold"),
				builder.AddressPool("team", "192.0.2.96/28").Namespaces("team", "a"))
			holder, sharer, s := c.add("holder"), c.add("sharer"), c.add("s")
			holder.Requested, sharer.Requested = addrs("192.0.2.0"), addrs("192.0.2.32")
			test.change(s)
			c.publish()
			c.wantAddresses(s)
			c.wantProblem(s, test.reason, test.texts...)
			if test.reason == v1alpha1.ReasonInvalidSpec {
				return
			}

			// with an address, it keeps it
			s.Recorded, s.Published = addrs("192.0.2.15"), addrs("192.0.2.15")
			c.publish()
			c.wantAddresses(s, "192.0.2.15")
			c.wantProblem(s, test.reason, test.texts...)
		})
	}
}

func TestS30_AServiceMovesToTheAddressItsUserNames(t *testing.T) {
	c := newCluster(t, builder.AddressPool("p", "192.0.2.1-192.0.2.2"))
	s1, s2 := c.add("s1"), c.add("s2")
	c.publish()
	c.want(s1, "192.0.2.1")
	c.want(s2, "192.0.2.2")

	// s1 wants s2's: keeps its own, and is told
	s1.Requested = addrs("192.0.2.2")
	c.publish()
	c.wantAddresses(s1, "192.0.2.1")
	c.wantProblem(s1, v1alpha1.ReasonAddressUnavailable, "192.0.2.2 is held by Service default/s2", "keeps 192.0.2.1")

	// s2 leaves: s1 moves, but holds what users were told until they are told anew
	c.remove(s2)
	s3 := c.add("s3")
	c.assign()
	c.want(s1, "192.0.2.2")
	c.wantAddresses(s3)
	c.wantProblem(s3, v1alpha1.ReasonPoolExhausted, "default/s1")

	if left := c.got[s1.UID].Leaving; len(left) != 1 || left[0] != addrs("192.0.2.1")[0] {
		t.Errorf("s1 leaves %s", left)
	}

	// crashed between record and status: nothing changes
	s1.Recorded = addrs("192.0.2.2", "192.0.2.1")
	c.assign()
	c.want(s1, "192.0.2.2")
	c.wantAddresses(s3)

	// the request goes while the move is on record: it is finished
	s1.Requested = nil
	c.assign()
	c.want(s1, "192.0.2.2")
	c.wantAddresses(s3)

	c.publish()
	c.publish()
	c.want(s1, "192.0.2.2")
	c.want(s3, "192.0.2.1")
}

func TestS30_TwoThatWantEachOthersAddressKeepTheirs(t *testing.T) {
	c := newCluster(t, builder.AddressPool("p", "192.0.2.1-192.0.2.2"))
	s1, s2 := c.add("s1"), c.add("s2")
	c.publish()
	s1.Requested, s2.Requested = addrs("192.0.2.2"), addrs("192.0.2.1")
	c.publish()
	c.wantAddresses(s1, "192.0.2.1")
	c.wantAddresses(s2, "192.0.2.2")
	c.wantProblem(s1, v1alpha1.ReasonAddressUnavailable, "default/s2")
	c.wantProblem(s2, v1alpha1.ReasonAddressUnavailable, "default/s1")
}

func TestS30_ARequestedAddressHeldBeforeItIsPublishedIsNotTakenByOthers(t *testing.T) {
	c := newCluster(t, builder.AddressPool("p", "192.0.2.1-192.0.2.2"))
	s1, s2 := c.add("s1"), c.add("s2")
	s2.Published, s2.Recorded, s2.Requested = addrs("192.0.2.1"), addrs("192.0.2.1", "192.0.2.2"), addrs("192.0.2.2")
	c.assign()
	c.wantAddresses(s1)
	c.want(s2, "192.0.2.2")
}

func TestS10_AWithdrawingServiceGetsNothingNew(t *testing.T) {
	c := newCluster(t, builder.AddressPool("p", "192.0.2.0/28", "2001:db8::/120"))
	s := c.add("s")
	c.publish()
	s.Withdrawing, s.Families, s.Requested = true, dual(v4, v6), addrs("192.0.2.7")
	c.assign()
	c.want(s, "192.0.2.0")
	fresh := c.add("fresh")
	fresh.Withdrawing = true
	c.assign()
	c.want(fresh)
}
