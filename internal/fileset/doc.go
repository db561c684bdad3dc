// Package fileset holds sets of configuration files: what a renderer makes, what
// travels to a host, and what a host has. A Set is immutable and its Digest
// names its content, independent of the order in which it was made.
package fileset
