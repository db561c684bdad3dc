// Package lab is the test cluster with external-lb on it, as a user would set it
// up: kustomize applied, the hosts prepared by `external-lb host install`, the
// manager running with the rights of its ServiceAccount.
package lab
