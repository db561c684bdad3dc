package engines_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/engine/engines"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/templates"
)

// Every engine states every setting: nothing is able by default.
func TestEveryEngineStatesEveryField(t *testing.T) {
	for _, e := range engines.Table.Engines {
		if err := e.Stated(); err != nil {
			t.Errorf("%s: %v", e, err)
		}
	}
	if engine.Known("algorithm") || engine.Known("") {
		t.Error("known is what is not listed")
	}
}

// Reasons are joined with what they are for, and listed in a table.
func TestReasonsAreOnePlainLine(t *testing.T) {
	for _, e := range engines.Table.Engines {
		for f, s := range e.Fields {
			for _, reason := range []string{s.Missing, s.UDP, s.HTTP, s.Affinity, s.Note} {
				if strings.ContainsAny(reason, "\n|") || strings.HasSuffix(reason, ".") || strings.TrimSpace(reason) != reason {
					t.Errorf("%s on %s: %q", f, e, reason)
				}
			}
		}
	}
}

// An engine is whole: it has both halves, a section of host.yaml, and templates.
func TestEveryEngineIsComplete(t *testing.T) {
	folders, err := templates.Engines.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, f := range folders {
		want = append(want, f.Name())
	}
	have := append(engines.Table.Names(), engines.Table.VRRP.Name)
	slices.Sort(have)
	if !slices.Equal(want, have) {
		t.Errorf("templates/ has %q, the table %q", want, have)
	}
	for _, e := range engines.Table.Engines {
		if e.Templates == nil || e.View == nil || e.Main == nil || e.Facts == nil || e.Section == "" || e.Software.Settings == nil || e.Open == nil {
			t.Errorf("%s is not whole", e)
		}
		if engines.Named(e.Name) != e {
			t.Errorf("%s is not found by its name", e)
		}
	}
}

// The kind takes the engines that there are, providers, and no others.
func TestTheKindHasTheSameEngines(t *testing.T) {
	text, err := os.ReadFile("../../../config/crd/bases/external-lb.dev_balancers.yaml")
	if err != nil {
		t.Fatal(err)
	}
	type property struct {
		Properties map[string]property `json:"properties"`
		Enum       []string            `json:"enum"`
		Default    any                 `json:"default"`
	}
	var crd struct {
		Spec struct {
			Versions []struct {
				Schema struct {
					OpenAPIV3Schema property `json:"openAPIV3Schema"`
				} `json:"schema"`
			} `json:"versions"`
		} `json:"spec"`
	}
	if err := yaml.Unmarshal(text, &crd); err != nil {
		t.Fatal(err)
	}
	for _, v := range crd.Spec.Versions {
		e := v.Schema.OpenAPIV3Schema.Properties["spec"].Properties["engine"]
		if names := engines.Table.Names(); !slices.Equal(e.Enum, append(slices.Clone(names), "provider")) || e.Default != names[0] {
			t.Errorf("spec.engine is one of %q, %q by default; the table has %q", e.Enum, e.Default, names)
		}
	}
	if len(crd.Spec.Versions) == 0 {
		t.Error("the CRD has no version")
	}
}

func TestWhatIsNoEngineCanDoNothing(t *testing.T) {
	for _, name := range []string{"", "apache"} {
		e := engines.Named(name)
		if e.Carries(lb.TCP) || e.Unsupported("mode=TCP", lb.TCP) == "" || e.KeepsConnections {
			t.Errorf("%q can do something", name)
		}
	}
}

func TestS13_Carries(t *testing.T) {
	for name, want := range map[string][]lb.Protocol{"nginx": {lb.TCP, lb.UDP}, "haproxy": {lb.TCP}, "lvs": {lb.TCP, lb.UDP, lb.SCTP}} {
		for _, p := range []lb.Protocol{lb.TCP, lb.UDP, lb.SCTP, "", "tcp"} {
			if got := engines.Named(name).Carries(p); got != slices.Contains(want, p) {
				t.Errorf("%s carries %q: %v", name, p, got)
			}
		}
	}
}
