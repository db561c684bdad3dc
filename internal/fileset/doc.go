// Package fileset has sets of configuration files: what a renderer makes of the model
// on a host, and what the host's store has. A Set is immutable and its Digest names
// its content, independent of the order in which it was made.
package fileset
