// Package ipam turns the pools of a Balancer and what its Services ask for and
// have already into one assignment of addresses, in which no listener has two
// owners and no address moves under its Service. Where a provider's cloud gives addresses,
// the assignment is a lb.Given one, which any number of Services may have.
package ipam
