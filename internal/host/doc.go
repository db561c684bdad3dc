// Package host is the balancer machine's end of a delivery: it turns a set of
// files into a configuration that the daemon has proved to run. It stages,
// checks, probes, swaps, reloads and proves, or rolls back; a crash at any line
// leaves the last good configuration on disk. What it runs and where it writes
// comes from this machine's own settings, never over the wire.
package host
