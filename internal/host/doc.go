// Package host is the balancer machine's end of a delivery: it turns a model into a
// configuration that the daemon has proved to run. It admits, renders, stages,
// checks, probes, swaps, reloads and proves, or rolls back; a crash at any line
// leaves the last good configuration on disk. What it runs, where it writes and how
// files are made comes from this machine's own settings and templates, never over
// the wire.
package host
