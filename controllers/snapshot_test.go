package controllers

import (
	"testing"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/builder"
)

// Each event of a held Service asks for the pools. They are read again when one of them
// is another, and only then.
func TestPoolsAreParsedWhenTheyChange(t *testing.T) {
	pool := func(name string, generation int64, addresses v1alpha1.AddressRange) v1alpha1.AddressPool {
		return *builder.AddressPool(name, addresses).With(func(p *v1alpha1.AddressPool) { p.Generation = generation }).Obj()
	}
	a, b := pool("a", 1, "192.0.2.0/30"), pool("b", 1, "192.0.2.4/30")
	var parsed parsedPools
	first := parsed.pools([]v1alpha1.AddressPool{a, b}).Accepted
	status := b
	status.Status.ObservedGeneration = 1
	if again := parsed.pools([]v1alpha1.AddressPool{status, a}).Accepted; again[0] != first[0] {
		t.Error("parsed again though nothing that is parsed changed")
	}
	changed := pool("b", 2, "192.0.2.0/30")
	if now := parsed.pools([]v1alpha1.AddressPool{a, changed}); len(now.Accepted) != 1 || now.Problems["b"] == nil {
		t.Errorf("a pool that changed is not read: %+v", now)
	}
	if none := parsed.pools(nil); len(none.Accepted) > 0 {
		t.Errorf("pools that are gone: %+v", none)
	}
	if back := parsed.pools([]v1alpha1.AddressPool{b}); len(back.Accepted) != 1 {
		t.Errorf("%+v", back)
	}
}
