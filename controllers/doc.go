// Package controllers turns what is in the API server into what the hosts carry,
// and tells users about it. It is thin: each reconcile of a Balancer reads a
// snapshot, records what Services hold (package record), computes the plan (package
// plan, pure), hands it to the hosts (package deliver) and writes what they proved
// (package conditions, pure).
package controllers
