package ipam

import "slices"

// Fits reports whether a Service that has no address yet could get one of the
// pool, were one free.
func (p *Pool) Fits(r *Request) bool {
	switch {
	case p.forbids(r) != "", r.Pool != "" && r.Pool != p.Name:
		return false
	case len(r.Requested) > 0:
		return slices.ContainsFunc(r.Requested, p.Contains)
	default:
		return p.AutoAssign || r.Pool == p.Name
	}
}
