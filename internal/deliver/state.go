package deliver

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/host"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/provider"
)

// State is what is known of one host.
type State struct {
	Host  string // its name in spec.hosts
	State v1alpha1.HostState
	// Reason classifies what is wrong, "" if nothing is, and Message says it and
	// what to do.
	Reason  Reason
	Message string
	Slow    bool // an Unreachable host was there, and had too little time

	// Proven are the items that the host was last proved to carry, where Live says that they are known.
	// While a delivery is under way something else may be live already: ask
	// Serves and MayServe.
	Proven  lb.Manifest
	Live    lb.Digest    // of Proven; "" if it is unknown
	Desired lb.Digest    // of what it should carry; "" before the first Deliver
	Refused []lb.Refusal // what is left out of what it was sent last

	Active        bool   // it has the addresses that move between hosts, as it said last
	Version       string // of external-lb there; "" if it was not reached yet
	EngineVersion string
	Renderer      string    // what makes files of the model there: see host.Report
	Templates     string    // why templates of the host's owner are not in force; "" if they are, or there are none
	Warning       string    // what it said last of a daemon that may carry all it should, such as that every node fails its check
	LastApplied   time.Time // when the host last proved a new configuration; zero: not since start
	Reloads       int       // since start
	Deliveries    int       // since start, of whatever result
	Uses          host.Uses // as it said last
	// Offers are what a provider's cloud can do, as it said last. It is not changed once
	// made. nil: it is a machine, or was not reached yet.
	Offers *provider.Capabilities
	// Given are the addresses of what a provider proved, by the keys of Services. It is not
	// changed once made.
	Given      map[lb.Key][]provider.Address
	OldWorkers int           // processes of earlier configurations that still carry connections
	Clock      time.Duration // how far its clock is ahead of this one, as is told; 0: they agree
	Restarts   int           // of its daemons, by somebody else, since it is asked
	Restarted  string        // what it says of the last one; "": nothing any more
	Seen       *Seen         // what its daemons see; nil: that is not known

	pending pending
	// coming is what it is about to be sent, though something newer is desired by now; nil: nothing.
	coming *lb.Set
	// judged is the set that failed last.
	judged lb.Digest
	// lost is true once the host did not answer a delivery, until it answers one. What it runs may be known
	// long before: see settled.
	lost bool
	// settled is true once no delivery of a former leader can change the host.
	settled bool
	// renews is true while what the host runs is to be made anew.
	renews bool
}

// Differs reports whether two hosts make different files of one model.
func (s State) Differs(o State) bool {
	return s.Version != o.Version || host.Alike(s.Renderer) != host.Alike(o.Renderer)
}

// Contested reports whether somebody else delivers to the host.
func (s State) Contested() bool {
	return s.Reason == ReasonContested || s.Reason == ReasonTermJump || s.Reason == ReasonOtherCluster
}

// Serves reports whether the item with these bytes is proved to be live on the host,
// and no delivery under way changes it.
func (s State) Serves(key lb.Key, sum lb.Sum) bool {
	return is(s.Proven, key, sum) && s.pending.keep(key, sum) && (s.coming == nil || is(s.coming.Manifest(), key, sum))
}

// Carries are the digests of all that the host may carry by now: of what was proved, and of what is
// on its way; "" where that is unknown.
func (s State) Carries() []lb.Digest {
	out := append([]lb.Digest{s.Live}, s.pending.digests...)
	if s.coming != nil {
		out = append(out, s.coming.Digest())
	}
	return out
}

// MayServe is false only if an item with this key is certainly not live on the
// host, nor will be by a delivery that began before now.
func (s State) MayServe(key lb.Key) bool {
	return !s.settled || s.Live == "" || s.Proven.Has(key) || s.pending.mayBring(key) || s.coming != nil && s.coming.Manifest().Has(key)
}

// proves reports whether a report's Live is what the daemon carries.
func proves(r host.Report) bool { return r.Proved && r.Generation != "" }

// take notes what a host reports.
func (s *State) take(r host.Report) {
	s.Proven, s.Live = lb.Manifest{}, ""
	if proves(r) {
		s.Proven, s.Live = r.Live, r.Live.Digest()
	}
	s.Refused, s.Renderer = r.Refused, r.Renderer
}

// partial is the state of a host that carries all but what it refused: it is under way where
// a cloud is still at work on all of that.
func (s *State) partial() {
	left := slices.DeleteFunc(slices.Clone(s.Refused), func(r lb.Refusal) bool { return r.Reason == lb.RefusedPending })
	if len(left) == 0 {
		s.State, s.Reason, s.Message = v1alpha1.HostDelivering, "", ""
		return
	}
	s.State, s.Reason = v1alpha1.HostPartial, ReasonRefused
	unknown := slices.IndexFunc(left, func(r lb.Refusal) bool { return r.Reason == lb.RefusedUnknown })
	switch {
	case unknown >= 0:
		s.Message = fmt.Sprintf("%s runs external-lb %s, which cannot carry %s: upgrade it", s.Host, s.Version, left[unknown].Key.Describe())
	case len(left) == 1:
		s.Message = "left out: " + describe(left[0])
	default:
		s.Message = fmt.Sprintf("%d items or ports are left out; the first is %s", len(left), describe(left[0]))
	}
}

func describe(r lb.Refusal) string {
	if r.OfItem() {
		return r.Key.Describe() + ": " + r.Message
	}
	return fmt.Sprintf("%s, %s: %s", r.Key.Describe(), r.Listener, r.Message)
}

// shortfall says why an outcome is not a good one: every item that is desired is to be
// proved as it was sent, or refused, and nothing else is to be there. wanted is the
// Digest of what the host wants. "": it is good.
func shortfall(want *lb.Set, r host.Report, wanted lb.Digest) string {
	took := "the host took " + want.Digest().Short()
	switch {
	case !proves(r):
		return took + " and proves nothing: look at the daemon's log there"
	case wanted != want.Digest():
		return fmt.Sprintf("%s and keeps %s: does somebody else deliver to it?", took, wanted.Short())
	}
	missing, beside := outside(want.Manifest(), r)
	switch {
	case missing != "":
		return fmt.Sprintf("%s and neither carries nor refuses %s: look at the daemon's log there", took, missing.Describe())
	case beside > 0:
		return fmt.Sprintf("%s and still carries %d items that are not in it: look at the daemon's log there", took, beside)
	}
	return ""
}

// outside finds, by name, the first item that a host should carry and neither does nor refuses,
// and counts those that are live and not wanted, and of which nobody says that they are about to
// go. An older version of a Service that stays goes on with the certificate that it shows.
func outside(want lb.Manifest, r host.Report) (missing lb.Key, beside int) {
	if want.Equal(r.Live) {
		return "", 0
	}
	refused, older := make(map[lb.Key]bool, len(r.Refused)), false
	for _, f := range r.Refused {
		refused[f.Key], older = true, older || f.OlderStays
	}
	for d := range want.Differences(r.Live) {
		switch {
		case refused[d.Key]:
		case d.Was != nil:
			if missing == "" || d.Key < missing {
				missing = d.Key
			}
		case !(older && d.Key.IsCertificate()):
			beside++
		}
	}
	return missing, beside
}

// Gone reports whether a host cannot be reached at all. One that is slow, or whose connection has
// broken just now, may be there.
func (s State) Gone() bool {
	return s.State == v1alpha1.HostUnreachable && !s.Slow && s.Reason != ReasonLost
}

// same reports whether two states tell a reader the same.
func (s State) same(o State) bool {
	return s.State == o.State && s.Reason == o.Reason && s.Message == o.Message &&
		s.Live == o.Live && s.Desired == o.Desired && slices.Equal(s.Refused, o.Refused) &&
		s.Version == o.Version && s.EngineVersion == o.EngineVersion && s.Renderer == o.Renderer && s.Templates == o.Templates && s.Warning == o.Warning &&
		s.Active == o.Active && s.LastApplied.Equal(o.LastApplied) && s.OldWorkers == o.OldWorkers && s.Uses.Alike(o.Uses) && s.Seen.JudgesAs(o.Seen) &&
		s.Clock == o.Clock && s.Restarts == o.Restarts && s.Restarted == o.Restarted &&
		slices.Equal(s.pending.digests, o.pending.digests) && s.settled == o.settled && s.Offers == o.Offers &&
		maps.EqualFunc(s.Given, o.Given, slices.Equal)
}
