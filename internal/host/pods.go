package host

import (
	"slices"

	"github.com/external-lb/external-lb/internal/lb"
)

// keepPodless lets older versions stay of Services to whose pods nothing may be sent, and
// reports whether there are any.
func (d *delivery) keepPodless() (some bool) {
	for _, r := range d.podless {
		if d.refuse(r.Key, r.Reason, r.Message) {
			some = true
		} else {
			delete(d.refused, refused{key: r.Key}) // it is among the refusals
		}
	}
	return some
}

// withPodsOf gives an older version of a Service the pods of what is wanted: those that it
// had come to an end, and their addresses are somebody else's soon. What is refused for want
// of room has no more pods than before. It reports false where it is not known which pods
// there are now: then the older version must not stay.
func withPodsOf(now, older *lb.Service, reason lb.RefusalReason) bool {
	if !older.Pods {
		return true
	}
	if !now.Pods {
		return false
	}
	ports := portsOf(now)
	for i := range older.Frontends {
		f := &older.Frontends[i]
		f.Endpoints = replaced(f.Endpoints, ports[f.Listener].Endpoints, reason == lb.RefusedNotAdmitted)
	}
	return true
}

// replaced are the pods that are there now: where they are not to be more than there were,
// those of them first that were there.
func replaced(were, are []lb.Endpoint, noMore bool) []lb.Endpoint {
	if !noMore || len(are) <= len(were) {
		return are
	}
	known := map[lb.Endpoint]bool{}
	for _, e := range were {
		known[lb.Endpoint{Address: e.Address}] = true
	}
	stays := func(e lb.Endpoint) bool { return known[lb.Endpoint{Address: e.Address}] }
	out := slices.DeleteFunc(slices.Clone(are), func(e lb.Endpoint) bool { return !stays(e) })
	for _, e := range are {
		if len(out) == len(were) {
			break
		}
		if !stays(e) {
			out = append(out, e)
		}
	}
	slices.SortFunc(out, func(a, b lb.Endpoint) int { return a.Address.Compare(b.Address) })
	return out
}
