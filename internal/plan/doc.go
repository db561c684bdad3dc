// Package plan turns a snapshot of Kubernetes objects into what the hosts of one
// Balancer should run and what its users should be told: snapshot → ipam →
// translate → render, in one pure step that the controller and `external-lb
// render` share.
package plan
