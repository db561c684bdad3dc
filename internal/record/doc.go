// Package record has who holds what, as it is written down in Services' statuses, and
// the finalizers that go with it. It alone knows how they are spelled. It is pure;
// controllers send the patches.
package record
