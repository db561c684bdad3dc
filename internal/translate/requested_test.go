package translate

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/builder"
)

func requesting(annotation, older string) *builder.ServiceBuilder {
	b := service("web")
	if annotation != "" {
		b.Annotate(v1alpha1.AddressesAnnotation, annotation)
	}
	b.Obj().Spec.LoadBalancerIP = older
	return b
}

func TestS30_RequestedAddresses(t *testing.T) {
	const invalid, invalidSpec = v1alpha1.ReasonInvalidAnnotation, v1alpha1.ReasonInvalidSpec
	for name, tc := range map[string]struct {
		annotation, older string
		want              string // comma separated
		reason            string
	}{
		"nothing":                  {"", "", "", ""},
		"blank":                    {" ", "\t", "", ""},
		"one":                      {"192.0.2.1", "", "192.0.2.1", ""},
		"one of each family":       {"2001:db8::1, 192.0.2.1", "", "2001:db8::1,192.0.2.1", ""},
		"mapped":                   {"::ffff:192.0.2.1", "", "192.0.2.1", ""},
		"the older way":            {"", " 192.0.2.1 ", "192.0.2.1", ""},
		"both, the same":           {"192.0.2.1", "192.0.2.1", "192.0.2.1", ""},
		"both, the same otherwise": {"192.0.2.1", "::ffff:192.0.2.1", "192.0.2.1", ""},
		"the annotation has more":  {"192.0.2.1,2001:db8::1", "2001:0db8::1", "192.0.2.1,2001:db8::1", ""},
		"both, different":          {"192.0.2.1", "192.0.2.2", "", invalid},
		"both, the older bad":      {"192.0.2.1", "any", "", invalid},
		"two of one family":        {"192.0.2.1,192.0.2.2", "", "", invalid},
		"twice":                    {"192.0.2.1,192.0.2.1", "", "", invalid},
		"three":                    {"192.0.2.1,2001:db8::1,192.0.2.2", "", "", invalid},
		"a trailing comma":         {"192.0.2.1,", "", "", invalid},
		"a prefix":                 {"192.0.2.0/24", "", "", invalid},
		"a port":                   {"192.0.2.1:80", "", "", invalid},
		"a name":                   {"lb.example", "", "", invalid},
		"a zone":                   {"2001:db8::1%eth0", "", "", invalid},
		"leading zeros":            {"192.0.2.001", "", "", invalid},
		"unspecified":              {"0.0.0.0", "", "", invalid},
		"loopback":                 {"127.0.0.1", "", "", invalid},
		"link-local":               {"fe80::1", "", "", invalid},
		"multicast":                {"", "224.0.0.1", "", invalidSpec},
		"broadcast":                {"", "255.255.255.255", "", invalidSpec},
		"older and bad":            {"", "192.0.2.1; }", "", invalidSpec},
		"hostile":                  {"192.0.2.1\n} server { listen 80;", "", "", invalid},
	} {
		t.Run(name, func(t *testing.T) {
			got, problem := RequestedAddresses(requesting(tc.annotation, tc.older).Obj())
			var texts []string
			for _, a := range got {
				texts = append(texts, a.String())
			}
			if diff := cmp.Diff(tc.want, strings.Join(texts, ",")); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if reason := deref(problem).Reason; reason != tc.reason {
				t.Errorf("problem %+v, want the reason %q", problem, tc.reason)
			}
		})
	}
}

// annotated asks in the way of another provider.
func annotated(pairs ...string) *corev1.Service {
	b := service("web")
	for i := 0; i < len(pairs); i += 2 {
		b.Annotate(pairs[i], pairs[i+1])
	}
	return b.Obj()
}

func TestForeignAnnotations_AskAsOursDo(t *testing.T) {
	const newer, older, ours = "metallb.io/loadBalancerIPs", "metallb.universe.tf/loadBalancerIPs", v1alpha1.AddressesAnnotation
	for name, c := range map[string]struct {
		annotations []string
		want        string // space separated; "": a problem that names the annotations
	}{
		"the newer":       {[]string{newer, "192.0.2.1"}, "[192.0.2.1]"},
		"the older":       {[]string{older, " 192.0.2.1, 2001:db8::1"}, "[192.0.2.1 2001:db8::1]"},
		"both, the same":  {[]string{newer, "192.0.2.1,2001:db8::1", older, "2001:db8::1,192.0.2.1"}, "[192.0.2.1 2001:db8::1]"},
		"as ours":         {[]string{ours, "192.0.2.1", newer, "192.0.2.1"}, "[192.0.2.1]"},
		"ours and other":  {[]string{ours, "192.0.2.1", newer, "192.0.2.2"}, ""},
		"ours has more":   {[]string{ours, "192.0.2.1,2001:db8::1", newer, "192.0.2.1"}, ""},
		"both, different": {[]string{newer, "192.0.2.1", older, "192.0.2.2"}, ""},
		"bad":             {[]string{newer, "192.0.2.0/24"}, ""},
	} {
		got, problem := RequestedAddresses(annotated(c.annotations...), v1alpha1.AnnotationsMetalLB)
		if problem == nil && fmt.Sprint(got) != c.want || (problem != nil) != (c.want == "") {
			t.Errorf("%s: %v, %+v", name, got, problem)
		}
		for i := 0; problem != nil && i < len(c.annotations); i += 2 {
			if problem.Reason != v1alpha1.ReasonInvalidAnnotation || !strings.Contains(problem.Message, c.annotations[i]) {
				t.Errorf("%s: %+v does not name %s", name, problem, c.annotations[i])
			}
		}
		if got, problem := RequestedAddresses(annotated(newer, "192.0.2.1", older, "wibble")); got != nil || problem != nil {
			t.Errorf("by default: %v, %+v", got, problem)
		}
	}
}

func TestForeignAnnotations_NamePoolsAsOursDo(t *testing.T) {
	const newer, older, ours = "metallb.io/address-pool", "metallb.universe.tf/address-pool", v1alpha1.AddressPoolAnnotation
	for name, c := range map[string]struct {
		annotations      []string
		pool, annotation string
		different        bool
	}{
		"none":            {nil, "", "", false},
		"the newer":       {[]string{newer, "gold"}, "gold", newer, false},
		"the older":       {[]string{older, "gold"}, "gold", older, false},
		"as ours":         {[]string{ours, "gold", newer, "gold"}, "gold", ours, false},
		"ours and other":  {[]string{ours, "gold", newer, "silver"}, "", "", true},
		"both, different": {[]string{newer, "gold", older, "silver"}, "", "", true},
	} {
		pool, annotation, problem := RequestedPool(annotated(c.annotations...), v1alpha1.AnnotationsMetalLB)
		if pool != c.pool || annotation != c.annotation || (problem != nil) != c.different {
			t.Errorf("%s: %q of %q, %+v", name, pool, annotation, problem)
		}
	}
	if pool, _, problem := RequestedPool(annotated(newer, "gold", older, "silver")); pool != "" || problem != nil {
		t.Errorf("by default: %q, %+v", pool, problem)
	}
}

func FuzzRequestedAddresses(f *testing.F) {
	for _, s := range []string{
		"192.0.2.1", "2001:db8::1,192.0.2.1", "a,b", "::ffff:1.2.3.4", "192.0.2.1\n}", "unix:/var/run/docker.sock", "${VAR}",
		strings.Repeat("9", 300),
	} {
		f.Add(s, "")
		f.Add("", s)
		f.Add("192.0.2.1", s)
	}
	f.Fuzz(func(t *testing.T, annotation, older string) {
		got, problem := RequestedAddresses(requesting(annotation, older).Obj())
		if problem != nil {
			wantTellable(t, problem)
			if got != nil {
				t.Errorf("refused, but gave %v", got)
			}
			return
		}
		asked := strings.TrimSpace(annotation) != "" || strings.TrimSpace(older) != ""
		if asked != (len(got) > 0) || len(got) > 2 || len(got) == 2 && got[0].Is4() == got[1].Is4() {
			t.Errorf("asked for %q and %q, got %v", annotation, older, got)
		}
		for _, a := range got {
			if a.Is4In6() || a.Zone() != "" || !a.IsGlobalUnicast() || netip.MustParseAddr(a.String()) != a {
				t.Errorf("got %v", a)
			}
		}
	})
}
