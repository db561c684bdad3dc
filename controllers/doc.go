// Package controllers turns what is in the API server into what runs on the
// hosts, and tells users about it. It is thin: each reconcile of a Balancer
// reads a snapshot, records what Services hold, computes the plan (package
// plan, pure), hands it to the hosts (package deliver) and reports what they
// proved.
package controllers
