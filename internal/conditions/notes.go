package conditions

import (
	"slices"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/deliver"
	"github.com/external-lb/external-lb/internal/host"
	"github.com/external-lb/external-lb/internal/text"
)

// maxNote is how many bytes a note has at most.
const maxNote = 1 << 10

// How many hundredths in use are told: what is left is for a reload, for what another host
// carried, or for a busy hour. It is told until there are clearly fewer.
const (
	crowdedAt      = 80
	stillCrowdedAt = 70
)

// noteOf are the reasons of notes on what is nearly used up, by the names of uses.
var noteOf = map[string]string{
	"connections": v1alpha1.NoteConnections, "files": v1alpha1.NoteFiles, "memory": v1alpha1.NoteMemory,
	"memory of old workers": v1alpha1.NoteOldWorkers, "tracked connections": v1alpha1.NoteTrackedConnections,
}

// status of a host as it was last written; the zero one: it was not.
func status(b *v1alpha1.Balancer, host string) v1alpha1.HostStatus {
	i := slices.IndexFunc(b.Status.Hosts, func(h v1alpha1.HostStatus) bool { return h.Name == host })
	if i < 0 {
		return v1alpha1.HostStatus{}
	}
	return b.Status.Hosts[i]
}

// crowded is what a host has nearly used up, where was is what was told of it.
func crowded(s deliver.State, was v1alpha1.HostStatus) (all []host.NamedUse) {
	for _, use := range s.Uses.All() {
		if use.Crowded(crowdedAt) || use.Crowded(stillCrowdedAt) && was.Note(noteOf[use.Name]) != "" {
			all = append(all, use)
		}
	}
	return all
}

// notes of a host. What was told stays while nothing is known: see Hosts.
func notes(s deliver.State, was v1alpha1.HostStatus) []v1alpha1.HostNote {
	if s.State == v1alpha1.HostConnecting {
		return was.Notes
	}
	all := s.Notes()
	for _, use := range crowded(s, was) {
		all = append(all, v1alpha1.HostNote{
			Reason: noteOf[use.Name], Message: use.Name + " are nearly used up: `external-lb host status` there says how much is in use",
		})
	}
	for i := range all {
		all[i].Message = text.Cut(all[i].Message, maxNote)
	}
	return all
}
