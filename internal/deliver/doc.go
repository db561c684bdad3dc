// Package deliver turns the set of files that the hosts of a Balancer should run
// into deliveries to each of them, over SSH or in process, and keeps what each
// host was last proved to run.
package deliver
