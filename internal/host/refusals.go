package host

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/external-lb/external-lb/internal/lb"
)

// foldAbove is how many refusals are told as they are. Where there are more, a Service of which
// nothing is carried is told once, and not with each of its ports, and words are cut.
const foldAbove = 1 << 14

// maxOutcome bounds the file of refusals, with room for the longest key and the words of each.
const maxOutcome = lb.MaxRefusals << 10

// all refusals, sorted. There are no more than the other end takes.
func (d *delivery) all() []lb.Refusal {
	out := slices.Concat(d.refusals, slices.Collect(maps.Values(d.refused)))
	slices.SortFunc(out, func(a, b lb.Refusal) int {
		return cmp.Or(cmp.Compare(a.Key, b.Key), a.Listener.Compare(b.Listener))
	})
	if len(out) <= foldAbove {
		return out
	}
	carried := make(map[lb.Key]bool, len(d.config.Services))
	for _, s := range d.config.Services {
		carried[lb.ServiceKey(s.ID)] = true
	}
	return terse(folded(out, carried))
}

// folded has one refusal for all ports of a Service of which nothing is carried. Those of the
// others stay: which of their ports are open must be known.
func folded(all []lb.Refusal, carried map[lb.Key]bool) (out []lb.Refusal) {
	for len(all) > 0 {
		n := 1
		for n < len(all) && all[n].Key == all[0].Key {
			n++
		}
		these := all[:n]
		all = all[n:]
		if n > 1 && !carried[these[0].Key] {
			first := these[0]
			if !first.OfItem() {
				first.Message = fmt.Sprintf("all of its %d ports are refused. %s: %s", n, first.Listener, first.Message)
				first.Listener = lb.Listener{}
			}
			these = []lb.Refusal{first}
		}
		out = append(out, these...)
	}
	return out
}

// terse cuts the words of refusals to what there is room for.
func terse(all []lb.Refusal) []lb.Refusal {
	most := lb.MaxRefusalText / max(1, len(all))
	for i := range all {
		if r := &all[i]; len(r.Message) > most {
			r.Message = strings.ToValidUTF8(r.Message[:most], "")
		}
	}
	return all
}

// refusals of the last delivery. All who ask share them.
func (m *model) refusals() []lb.Refusal {
	info, err := m.root.Lstat(outcomeFile)
	if err != nil {
		return nil
	}
	m.outcome.Lock()
	defer m.outcome.Unlock()
	if now := identify(info); now != m.outcome.file {
		var all []lb.Refusal
		data, err := m.readFile(outcomeFile, maxOutcome)
		if err != nil || json.Unmarshal(data, &all) != nil {
			return nil
		}
		m.outcome.file, m.outcome.refused = now, all
	}
	return m.outcome.refused
}
