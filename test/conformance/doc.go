// Package conformance is the table of what Kubernetes expects of a LoadBalancer
// provider, row by row, with what an engine cannot carry; and what a run of the
// tests that bear the rows' numbers says of it.
package conformance
