// Package record has who holds what, as it is written down on Services: finalizers
// and annotations. It alone knows how they are spelled. It is pure; controllers send
// the patches.
package record
