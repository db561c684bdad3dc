// Package deliver turns the items that the hosts of a Balancer should carry into
// deliveries to each of them, over SSH or by the socket of an agent on the same
// machine, and keeps what each host was last proved to carry.
package deliver
