package translate

import (
	"encoding/json"
	"maps"
	"slices"
	"testing"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/engine/engines"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/lb/lbtest"
)

// FuzzSettings: what an administrator or a user sets, whatever it is, makes a model that hosts take.
// TestEveryFieldOfTheKindIsRead holds that there are examples of every field.
func FuzzSettings(f *testing.F) {
	for i, name := range slices.Sorted(maps.Keys(examples)) {
		for _, value := range examples[name] {
			data, err := json.Marshal(inItsMode(name, setting(f, name, value)))
			if err != nil {
				f.Fatal(err)
			}
			f.Add(engines.Table.Engines[i%len(engines.Table.Engines)].Name, data)
		}
	}
	for _, idle := range []string{"1ms", "25h", "-1s", "1e3s", "080", "2.5h", "2147483648s"} {
		f.Add("haproxy", []byte(`{"timeouts":{"idle":"`+idle+`","connect":"`+idle+`"},"healthCheck":{"interval":"`+idle+`","http":{"path":" /x;}","host":"a b"}}}`))
	}
	f.Fuzz(func(t *testing.T, engine string, data []byte) {
		var s v1alpha1.UpstreamSettings
		if json.Unmarshal(data, &s) != nil {
			return
		}
		if engines.Table.Find(engine) == nil {
			engine = "haproxy"
		}
		in := MakeInput(web()).Spec(func(b *v1alpha1.BalancerSpec) { b.Engine, b.Defaults = v1alpha1.Engine(engine), s })
		in.Policies(policy("p").For("web").Set(func(into *v1alpha1.UpstreamSettings) { *into = s }))
		set, err := new(lb.Encoder).Encode(New().Translate(in.Input).Config)
		if err != nil {
			t.Fatalf("%s: %v", data, err)
		}
		for it := range set.All() {
			part, err := lb.Decode(it)
			if err == nil {
				err = lbtest.InBounds(part)
			}
			if err != nil {
				t.Errorf("%s: %v", data, err)
			}
		}
	})
}
