package translate

import (
	"net/netip"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/test/builder"
)

func allow(prefixes ...string) lb.Clients {
	var a lb.Clients
	for _, p := range prefixes {
		a.Sources = append(a.Sources, netip.MustParsePrefix(p))
	}
	return a
}

func TestS28_SourceRanges(t *testing.T) {
	everybody, closed := lb.Clients{Everybody: true}, lb.Clients{}
	annotated := func(text string) *builder.ServiceBuilder {
		return service("web").Annotate(v1alpha1.SourceRangesAnnotation, text)
	}
	for name, tc := range map[string]struct {
		svc    *builder.ServiceBuilder
		v4, v6 lb.Clients
	}{
		"none":                        {service("web"), everybody, everybody},
		"one family only":             {service("web").Ranges("192.0.2.0/24"), allow("192.0.2.0/24"), closed},
		"the other family only":       {service("web").Ranges("2001:db8::/32"), closed, allow("2001:db8::/32")},
		"split by family":             {service("web").Ranges("2001:db8::/32", "192.0.2.0/24"), allow("192.0.2.0/24"), allow("2001:db8::/32")},
		"white space":                 {service("web").Ranges(" 192.0.2.0/24\t", "\n198.51.100.0/24"), allow("192.0.2.0/24", "198.51.100.0/24"), closed},
		"sorted, each once":           {service("web").Ranges("198.51.100.0/24", "192.0.2.0/24", "192.0.2.7/24"), allow("192.0.2.0/24", "198.51.100.0/24"), closed},
		"/0 is everybody":             {service("web").Ranges("192.0.2.0/24", "0.0.0.0/0"), everybody, closed},
		"/0 with any address":         {service("web").Ranges("192.0.2.0/0"), everybody, closed},
		"/0 of IPv6":                  {service("web").Ranges("::/0"), closed, everybody},
		"two halves are not /0":       {service("web").Ranges("0.0.0.0/1", "128.0.0.0/1"), allow("0.0.0.0/1", "128.0.0.0/1"), closed},
		"mapped":                      {service("web").Ranges("::ffff:192.0.2.0/120"), allow("192.0.2.0/24"), closed},
		"mapped everybody":            {service("web").Ranges("::ffff:0.0.0.0/96"), everybody, closed},
		"the annotation":              {annotated(" 192.0.2.0/24 , 198.51.100.1/32 "), allow("192.0.2.0/24", "198.51.100.1/32"), closed},
		"the annotation, blank":       {annotated(" \n"), everybody, everybody},
		"the field goes first":        {annotated("0.0.0.0/0").Ranges("192.0.2.0/24"), allow("192.0.2.0/24"), closed},
		"so garbage is not looked at": {annotated("garbage").Ranges("192.0.2.0/24"), allow("192.0.2.0/24"), closed},
	} {
		t.Run(name, func(t *testing.T) {
			got := MakeInput(on(tc.svc.Port(80), "192.0.2.1", "2001:db8::1")).Only(t)
			got.wantProblems(t)
			if diff := cmp.Diff([]lb.Clients{tc.v4, tc.v6}, []lb.Clients{got.IPv4.Clients, got.IPv6.Clients}, compare); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

var badRanges = []string{
	"", "all", "192.0.2.1", "192.0.2.0/33", "192.0.2.0/-1", "192.0.2.0/024", "010.0.0.0/8", "192.0.2/24",
	"192.0.2.0/24;", "192.0.2.0/24 198.51.100.0/24", "2001:db8::/129", "fe80::%eth0/64",
	"192.0.2.0/24\nallow all", "192.0.2.0/24; deny all", "unix:", "${VAR}", "０.0.0.0/0", "192.0.2.0/24\x00",
}

func TestS28_RangesThatCannotBeReadOpenNothing(t *testing.T) {
	for _, bad := range badRanges {
		svc := service("web").Ranges("0.0.0.0/0", bad).Port(80)
		neighbour := on(service("neighbour").Port(80), "192.0.2.2")
		out := New().Translate(MakeInput(on(svc, "192.0.2.1"), neighbour).Input)
		got := translated{nil, out.Services["web-uid"]}
		got.wantProblems(t, "!"+v1alpha1.ReasonInvalidSpec)
		if len(out.Config.Services) != 1 || out.Config.Services[0].ID.Name != "neighbour" {
			t.Errorf("%q: want only the neighbour to be carried", bad)
		}
	}
	got := MakeInput(on(service("web").Annotate(v1alpha1.SourceRangesAnnotation, "192.0.2.0/24,").Port(80), "192.0.2.1")).Only(t)
	got.wantProblems(t, "!"+v1alpha1.ReasonInvalidAnnotation)
}

func FuzzSourceRanges(f *testing.F) {
	good := []string{"192.0.2.0/24", " ::/0", "::ffff:192.0.2.0/120", "192.0.2.0/24,2001:db8::/32", "::ffff:1.2.3.4/80"}
	for _, s := range append(good, badRanges...) {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, problem := parseSources(service("web").Annotate(v1alpha1.SourceRangesAnnotation, text).Obj())
		if problem != nil {
			wantTellable(t, problem)
			if got.everybody || got.v4 != nil || got.v6 != nil {
				t.Errorf("refused, but allows %+v", got)
			}
			return
		}
		if got.everybody != (strings.TrimSpace(text) == "") {
			t.Errorf("everybody: %v", got.everybody)
		}
		for _, ipv4 := range []bool{true, false} {
			for _, p := range got.of(ipv4).Sources {
				if p != p.Masked() || p.Addr().Is4() != ipv4 || p.Addr().Is4In6() || netip.MustParsePrefix(p.String()) != p {
					t.Errorf("%q gave %s", text, p)
				}
			}
		}
	})
}

// wantTellable checks that a message fits into a status and holds no control characters.
func wantTellable(t *testing.T, p *Problem) {
	t.Helper()
	control := func(r rune) bool { return r < ' ' || r == 0x7f }
	if !utf8.ValidString(p.Message) || len(p.Message) > 1024 || strings.ContainsFunc(p.Message, control) {
		t.Errorf("message: %q", p.Message)
	}
}
