package lb_test

import (
	"reflect"
	"testing"

	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/lb/lbtest"
)

// What is generated for properties has every field of the model. One more in the model makes this fail.
func TestConfig_HasEveryField(t *testing.T) {
	set := map[string]bool{}
	for seed := range 300 {
		noteFields(set, "Config", reflect.ValueOf(*lbtest.Config().Example(seed)))
	}
	for field, is := range set {
		if !is {
			t.Errorf("%s is always zero", field)
		}
	}
	if len(set) < 80 {
		t.Errorf("these are all fields: %v", set)
	}
}

// noteFields that are not zero.
func noteFields(set map[string]bool, name string, v reflect.Value) {
	set[name] = set[name] || !v.IsZero()
	switch {
	case v.Type().PkgPath() == "net/netip" || v.Type() == reflect.TypeFor[*lb.Certificate]():
	case v.Kind() == reflect.Pointer && !v.IsNil():
		noteFields(set, name, v.Elem())
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			noteFields(set, name+"."+v.Type().Field(i).Name, v.Field(i))
		}
	case v.Kind() == reflect.Slice:
		for i := range v.Len() {
			noteFields(set, name, v.Index(i))
		}
	}
}
