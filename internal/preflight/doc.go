// Package preflight says whether a cluster and its Balancers are fit to work, and soon will
// not be: facts → checks, each with what to do. It is pure.
package preflight
