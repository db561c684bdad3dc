package deliver

import (
	"slices"
	"time"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/fileset"
	"github.com/external-lb/external-lb/internal/host"
)

// State is what is known of one host.
type State struct {
	Host  string // its name in spec.hosts
	State v1alpha1.HostState
	// Reason classifies what is wrong, "" if nothing is, and Message says it and
	// what to do.
	Reason  Reason
	Message string

	// Proven is the set that the host was last proved to run; nil: unknown.
	// While a delivery is under way something else may be live already: ask
	// Serves and MayServe.
	Proven  fileset.Manifest
	Live    fileset.Digest // that the host proved; "" if it proved none
	Desired fileset.Digest // that it should run; "" before the first Deliver
	Refused []host.Refusal // fragments left out of Desired
	Trial   Trial          // how the host took what is on trial

	Active        bool // it has the addresses that move between hosts, as it said last
	EngineVersion string
	LastApplied   time.Time // when the host last proved a new configuration; zero: not since start
	Reloads       int       // since start
	Deliveries    int       // since start, of whatever result
	OldWorkers    int       // processes of earlier configurations that still carry connections

	// pending are sets under way, or whose outcome is not known: their files may
	// be live, and what they lack may be gone.
	pending []fileset.Manifest
	// judged is the set that failed last.
	judged fileset.Digest
	// settled is true once no delivery of a former leader can change the host.
	settled bool
}

// Serves reports whether the file with this content is proved to be live on the
// host, and no delivery under way changes it.
func (s State) Serves(path string, sum fileset.Sum) bool {
	if proven, ok := s.Proven[path]; !ok || proven != sum {
		return false
	}
	return !slices.ContainsFunc(s.pending, func(m fileset.Manifest) bool {
		got, ok := m[path]
		return !ok || got != sum
	})
}

// MayServe is false only if a file with this path is certainly not live on the
// host, nor will be by a delivery that began before now.
func (s State) MayServe(path string) bool {
	if !s.settled || s.Proven == nil {
		return true
	}
	if _, proven := s.Proven[path]; proven {
		return true
	}
	return slices.ContainsFunc(s.pending, func(m fileset.Manifest) bool {
		_, ok := m[path]
		return ok
	})
}

// proof finds the set that has the digest which a host proved: what it has on
// disk, what was proved before, or what was under way; nil if it is none of them.
func (s State) proof(live fileset.Digest, candidates ...fileset.Manifest) fileset.Manifest {
	if live == "" {
		return nil
	}
	for _, m := range slices.Concat(candidates, []fileset.Manifest{s.Proven}, s.pending) {
		if m != nil && m.Digest() == live {
			return m
		}
	}
	return nil
}

// same reports whether two states tell a reader the same.
func (s State) same(o State) bool {
	return s.State == o.State && s.Reason == o.Reason && s.Message == o.Message &&
		s.Live == o.Live && s.Desired == o.Desired && (s.Proven == nil) == (o.Proven == nil) &&
		slices.Equal(s.Refused, o.Refused) && s.Trial == o.Trial && s.EngineVersion == o.EngineVersion &&
		s.Active == o.Active && s.LastApplied.Equal(o.LastApplied) && s.OldWorkers == o.OldWorkers &&
		len(s.pending) == len(o.pending) && s.settled == o.settled
}
