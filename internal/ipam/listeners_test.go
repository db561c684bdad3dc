package ipam

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/test/builder"
)

func TestS34_TheOlderKeepsTheListenerAndTheYoungerGetsItWhenItIsFree(t *testing.T) {
	c := newCluster(t, builder.AddressPool("p", "192.0.2.1").Shared())
	s2, s1 := c.add("s2"), c.add("s1")
	s1.Created = s2.Created.Add(-time.Hour)
	c.publish()
	c.want(s1, "192.0.2.1")
	c.wantAddresses(s2)
	c.wantProblem(s2, v1alpha1.ReasonPortConflict, "192.0.2.1:80/TCP is held by Service default/s1")
	c.remove(s1)
	c.publish()
	c.want(s2, "192.0.2.1")
	// an older one that comes later takes nothing from it
	c.requests = append(c.requests, s1)
	s1.Recorded, s1.Published = nil, nil
	c.publish()
	c.want(s2, "192.0.2.1")
	c.wantProblem(s1, v1alpha1.ReasonPortConflict, "default/s2")
}

func TestS34_OfOneAgeTheNameDecidesThenTheUID(t *testing.T) {
	c := newCluster(t, builder.AddressPool("p", "192.0.2.1"))
	b, a, a2 := c.add("b"), c.add("a"), c.add("a2")
	a2.Name = a.Name
	for _, r := range c.requests {
		r.Created = epoch
	}
	c.assign()
	c.want(a, "192.0.2.1")
	c.wantAddresses(a2)
	c.wantAddresses(b)
}

func TestS34_AfterAPortChangeWhoHasThePortKeepsIt(t *testing.T) {
	c := newCluster(t, builder.AddressPool("p", "192.0.2.1").Shared())
	s1, s2 := c.add("s1"), c.add("s2")
	s2.Ports = ports(443, 8443)
	c.publish()
	c.want(s1, "192.0.2.1")
	c.want(s2, "192.0.2.1")

	// s2 asks for s1's port: it keeps its address, but not there
	s2.Ports = ports(443, 80)
	c.publish()
	c.want(s1, "192.0.2.1")
	c.wantConflicts(s1)
	c.wantAddresses(s2, "192.0.2.1")
	c.wantConflicts(s2, "192.0.2.1:80/TCP default/s1")
	c.wantProblem(s2, v1alpha1.ReasonPortConflict, "192.0.2.1:80/TCP", "default/s1")

	// s1 leaves the port, s2 gets it
	s1.Ports = ports(81)
	c.publish()
	c.want(s2, "192.0.2.1")
	c.wantConflicts(s2)

	// s1, the older, wants it back: it stays with s2, and comes when s2 leaves it
	s1.Ports = ports(80, 81)
	c.publish()
	c.want(s2, "192.0.2.1")
	c.wantConflicts(s2)
	c.wantConflicts(s1, "192.0.2.1:80/TCP default/s2")
	c.wantProblem(s1, v1alpha1.ReasonPortConflict, "192.0.2.1:80/TCP", "default/s2")
	s2.Ports = ports(443)
	c.publish()
	c.want(s1, "192.0.2.1")
	c.wantConflicts(s1)
}

// Somebody made a Service early, got the address of another one with a port that nobody
// wants, and changes its ports then.
func TestS34_NobodyTakesALiveListenerByTheirAge(t *testing.T) {
	for name, write := range map[string]func(victim *Request){
		"published":    func(*Request) {},
		"on record":    func(r *Request) { r.Published = nil }, // hosts may have it
		"withdrawing":  func(r *Request) { r.Withdrawing = true },
		"being left":   func(r *Request) { r.Recorded = addrs("192.0.2.2", "192.0.2.1") },
		"changed, too": func(r *Request) { r.Ports = ports(80, 443, 8443) },
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, builder.AddressPool("p", "192.0.2.1").Shared(), builder.AddressPool("q", "192.0.2.2").Shared().Manual())
			attacker, victim := c.add("attacker"), c.add("victim")
			attacker.Ports, victim.Ports = ports(8443), ports(80, 443)
			c.publish()
			c.want(attacker, "192.0.2.1")
			c.want(victim, "192.0.2.1")
			write(victim)
			attacker.Ports = ports(80, 443, 8443)
			c.assign()
			c.wantConflicts(attacker, "192.0.2.1:80/TCP default/victim", "192.0.2.1:443/TCP default/victim")
			if len(victim.Ports) < 3 {
				c.wantConflicts(victim)
			} else {
				c.wantConflicts(victim, "192.0.2.1:8443/TCP default/attacker")
			}
			if withheld := c.got[victim.UID].Withheld; len(withheld) > 0 {
				t.Errorf("the victim loses %v", withheld)
			}
		})
	}
}

// What is on record for an address that is shared no more lets nobody in who was not told of it.
func TestS34_AListenerOnRecordIsNoWayToAnAddress(t *testing.T) {
	c := newCluster(t, builder.AddressPool("p", "192.0.2.1-192.0.2.2"))
	s1, s2 := c.add("s1"), c.add("s2")
	s1.Recorded, s1.Listeners = addrs("192.0.2.1"), []lb.Listener{ports(80)[0].at(addrs("192.0.2.1")[0])}
	s2.Recorded, s2.Published = addrs("192.0.2.1"), addrs("192.0.2.1")
	c.assign()
	c.want(s2, "192.0.2.1")
	c.wantConflicts(s2)
	c.want(s1, "192.0.2.2")
}

// Only where others may come has a Service to say what it has.
func TestS34_ListenersAreOnRecordWhereAnAddressIsShared(t *testing.T) {
	c := newCluster(t, builder.AddressPool("p", "192.0.2.1").Shared(), builder.AddressPool("q", "192.0.2.2").Manual())
	s1, s2, alone := c.add("s1"), c.add("s2"), c.add("alone")
	s2.Ports, alone.Requested = ports(443, 81), addrs("192.0.2.2")
	wants := func(r *Request, want string) {
		t.Helper()
		if got := fmt.Sprint(c.got[r.UID].Listeners); got != want {
			t.Errorf("on record for %s: %s, want %s", r.Name, got, want)
		}
	}
	c.publish()
	wants(s1, "[192.0.2.1:80/TCP]")
	wants(s2, "[192.0.2.1:81/TCP 192.0.2.1:443/TCP]")
	wants(alone, "[]")
	s2.Ports = ports(80, 443)
	c.publish()
	wants(s2, "[192.0.2.1:443/TCP]")
	// shared no more, but for those who are there
	c.setPools(builder.AddressPool("p", "192.0.2.1"))
	c.publish()
	wants(s2, "[192.0.2.1:443/TCP]")
	c.remove(s1)
	c.publish()
	wants(s2, "[]")
}

func TestS34_ARecordedAddressStaysWithWhatIsLeftOfItsListeners(t *testing.T) {
	c := newCluster(t, builder.AddressPool("p", "192.0.2.1", "192.0.2.2").Shared())
	s1, s2 := c.add("s1"), c.add("s2")
	s1.Recorded, s1.Published, s2.Recorded = addrs("192.0.2.1"), addrs("192.0.2.1"), addrs("192.0.2.1")
	s2.Ports = ports(80, 443)
	c.assign()
	c.wantAddresses(s2, "192.0.2.1")
	c.wantConflicts(s2, "192.0.2.1:80/TCP default/s1")
	// with none left, another address serves it better
	s2.Ports = ports(80)
	c.assign()
	c.want(s2, "192.0.2.2")
}

// checkListeners: S34, no listener has two owners.
func (w *world) checkListeners(t *rapid.T) {
	owners := map[lb.Listener]string{}
	for _, r := range w.requests {
		lost := map[lb.Listener]bool{}
		for _, c := range w.got[r.UID].Conflicts {
			lost[c.Listener] = true
		}
		for _, a := range w.got[r.UID].Addresses {
			for _, p := range r.Ports {
				at := p.at(a)
				if lost[at] {
					continue
				}
				if owner, taken := owners[at]; taken {
					t.Fatalf("%s is both %s's and %s's", at, owner, r.Name)
				}
				owners[at] = r.Name
			}
		}
	}
}

// checkListenersStay: S34, nobody else has a listener that is on record as a Service's own,
// whatever their ages, as long as the Service wants it.
func (w *world) checkListenersStay(t *rapid.T) {
	shared := newIndex(w.pools)
	on := map[lb.Listener][]*Request{} // record, of those who want it
	for _, r := range w.requests {
		for _, l := range r.Listeners {
			if slices.Contains(r.Recorded, l.Address) && slices.Contains(r.Ports, Port{l.Protocol, l.Port}) {
				on[l] = append(on[l], r)
			}
		}
	}
	for l, owners := range on {
		p := shared.find(l.Address)
		told := slices.Contains(owners[0].Published, l.Address) || p != nil && p.SharePorts
		if len(owners) > 1 || !told { // one left it before its record could say so, and wants it back
			continue
		}
		for _, r := range w.requests {
			lost := slices.ContainsFunc(w.got[r.UID].Conflicts, func(c Conflict) bool { return c.Listener == l })
			has := slices.Contains(w.got[r.UID].Addresses, l.Address) && slices.Contains(r.Ports, Port{l.Protocol, l.Port})
			if r == owners[0] && lost || r != owners[0] && has && !lost {
				t.Fatalf("%s was %s's and is another's now; %s", l, owners[0].Name, r.Name)
			}
		}
	}
}
