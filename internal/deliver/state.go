package deliver

import (
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

	EngineVersion string
	LastApplied   time.Time // when the host last proved a new configuration; zero: not since start
	Reloads       int       // since start
	Deliveries    int       // since start, of whatever result
	OldWorkers    int       // processes of earlier configurations that still carry connections

	// pending is a set under way, whose outcome is not known: its files may be
	// live, and those that it lacks may be gone.
	pending fileset.Manifest
	// settled is true once no earlier delivery, of this process or of a former
	// leader, can change the host any more.
	settled bool
}

// Serves reports whether the file with this content is proved to be live on the
// host, and no delivery under way changes it.
func (s State) Serves(path string, sum fileset.Sum) bool {
	if s.Proven[path] != sum || s.Proven == nil {
		return false
	}
	return s.pending == nil || s.pending[path] == sum
}

// MayServe is false only if a file with this path is certainly not live on the
// host, nor will be by a delivery that began before now.
func (s State) MayServe(path string) bool {
	if !s.settled || s.Proven == nil {
		return true
	}
	_, proven := s.Proven[path]
	_, pending := s.pending[path]
	return proven || pending
}
