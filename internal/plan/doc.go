// Package plan turns Kubernetes objects into what the hosts of one Balancer should
// carry and what its users should be told: snapshot → assign → translate → encode,
// in pure steps that the controller and the commands share. Between assign and
// translate the controller writes down who holds what.
package plan
