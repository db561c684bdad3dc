package kit

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/external-lb/external-lb/provider"
)

const secret = "a token of this test"

// member to which clouds with traffic send it.
var member = netip.MustParseAddr("127.1.0.1")

// failures runs the kit and returns the names of the checks that failed.
func failures(t *testing.T, c provider.Cloud, change func(*Options)) (names []string) {
	t.Helper()
	admit := provider.Admit{Nodes: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.PrefixFrom(member, 32)}}
	s := &provider.Server{Cloud: c, Token: secret, Admit: admit}
	server := httptest.NewServer(s.Handler())
	t.Cleanup(server.Close)
	o := Options{URL: server.URL, Token: secret, Timeout: time.Minute, Address: netip.MustParseAddr("203.0.113.9")}
	if change != nil {
		change(&o)
	}
	err := Run(t.Context(), o, func(r Result) {
		if r.Err != nil {
			names = append(names, r.Name)
			t.Logf("%s: %v", r.Name, r.Err)
		}
	})
	if (err == nil) != (len(names) == 0) {
		t.Errorf("%v failed, and Run said %v", names, err)
	}
	return names
}

func TestASlowCloudPasses(t *testing.T) {
	c := newCloud()
	drift := func(_ context.Context, id provider.ID, _ provider.LoadBalancer) error { return c.drift(id) }
	got := failures(t, c, func(o *Options) {
		o.Drift, o.Strangers, o.Member, o.Dial = drift, c.strangers, member, c.dial
	})
	if len(got) > 0 {
		t.Errorf("failed: %v", got)
	}
}

// A request that was cut may come through when its load balancer is gone already. What it
// makes then is not the fault of the checks that follow, and goes, too.
func TestACloudThatHearsLatePasses(t *testing.T) {
	c := newCloud()
	c.faults.late = true
	if got := failures(t, c, nil); len(got) > 0 {
		t.Errorf("failed: %v", got)
	}
	if c.cameLate == 0 || len(c.all) > 0 {
		t.Errorf("%d requests came late; left over: %v", c.cameLate, c.all)
	}
}

// A cloud that gives no address by itself passes where one is said, and without one nothing
// can be asked of it.
func TestACloudThatGivesNoAddress(t *testing.T) {
	c := newCloud()
	c.faults.givesNone = true
	if got := failures(t, c, nil); len(got) > 0 {
		t.Errorf("failed: %v", got)
	}
	if got := failures(t, c, func(o *Options) { o.Address = netip.Addr{} }); !slices.Equal(got, []string{"capabilities"}) {
		t.Errorf("without an address: %v", got)
	}
}

// Who says what a Put costs says it of a list, too.
func TestCreate_FindsListsThatCostNothing(t *testing.T) {
	c := newCloud()
	c.faults.freeLists = true
	if got := failures(t, c, nil); !slices.Equal(got, []string{"create"}) {
		t.Errorf("failed: %v", got)
	}
}

// Each fault that a provider may have is found, by the check that promises otherwise. On a
// busy machine others may fail beside it, as each has little time here.
func TestFaultsAreFound(t *testing.T) {
	for name, fault := range map[string]func(*memory){
		"repeat":         func(c *memory) { c.faults.rewrites = true },
		"change":         func(c *memory) { c.faults.newAddress = true },
		"wanted address": func(c *memory) { c.faults.sharesAddresses = true },
		"given address":  func(c *memory) { c.faults.oneAddress = true },
		"two clusters":   func(c *memory) { c.faults.oneCluster = true },
		"drift":          func(c *memory) { c.faults.echoes = true },
		"cut short":      func(c *memory) { c.faults.sticks = true },
		"delete":         func(c *memory) { c.faults.goesEarly = true },
		"strangers":      func(c *memory) { c.faults.sweeps = true },
		"create":         func(c *memory) { c.faults.forgets = true },
		"affinity":       func(c *memory) { c.faults.clings = true },
		"datagrams":      func(c *memory) { c.faults.keepsNodePort = true },
		"flavor":         func(c *memory) { c.faults.anyFlavor = true },
		"certificate":    func(c *memory) { c.faults.anyCertificate = true },
		"flavor: a flavor that is taken, and does not come": func(c *memory) { c.faults.noFlavor = true },
		"certificate: a port that is open without TLS":      func(c *memory) { c.faults.noTLS = true },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			check, _, _ := strings.Cut(name, ":")
			c := newCloud()
			fault(c)
			drift := func(_ context.Context, id provider.ID, _ provider.LoadBalancer) error { return c.drift(id) }
			got := failures(t, c, func(o *Options) {
				o.Drift, o.Strangers, o.Member, o.Dial, o.Timeout = drift, c.strangers, member, c.dial, 300*time.Millisecond
			})
			if !slices.Contains(got, check) {
				t.Errorf("only %v failed", got)
			}
		})
	}
}

// A provider that writes its server by itself may let more through than ours does.
func TestALaxServerIsFound(t *testing.T) {
	lax := httptest.NewServer(laxServer(t))
	t.Cleanup(lax.Close)
	var failed []string
	err := Run(t.Context(), Options{URL: lax.URL, Token: secret, Timeout: 300 * time.Millisecond}, func(r Result) {
		if r.Err != nil {
			failed = append(failed, r.Name)
		}
	})
	if err == nil {
		t.Error("it passed")
	}
	for _, want := range []string{"token", "bounds", "unsupported"} {
		if !slices.Contains(failed, want) {
			t.Errorf("%s did not fail, but %v", want, failed)
		}
	}
}

func TestRun_SaysWhatIsNoProvider(t *testing.T) {
	server := httptest.NewServer(nil)
	t.Cleanup(server.Close)
	err := Run(t.Context(), Options{URL: server.URL, Token: secret}, func(Result) {})
	if err == nil || !strings.Contains(err.Error(), "is it one?") {
		t.Error(err)
	}
	err = Run(t.Context(), Options{URL: "http://203.0.113.1", Token: secret}, func(Result) {})
	if err == nil || !strings.Contains(err.Error(), "want https") {
		t.Error(err)
	}
}

// Who interrupts it pays for nothing that is left in the cloud.
func TestRun_TidiesUpWhenItIsInterrupted(t *testing.T) {
	c := newCloud()
	s := &provider.Server{Cloud: c, Token: secret}
	server := httptest.NewServer(s.Handler())
	t.Cleanup(server.Close)
	ctx, interrupt := context.WithCancel(t.Context())
	last := ""
	err := Run(ctx, Options{URL: server.URL, Token: secret, Drift: func(context.Context, provider.ID, provider.LoadBalancer) error {
		interrupt()
		return nil
	}}, func(r Result) { last = r.Name })
	if !errors.Is(err, context.Canceled) || last != "drift" {
		t.Errorf("it ended after %s, with %v", last, err)
	}
	if len(c.all) > 0 {
		t.Errorf("left over: %v", c.all)
	}
}

// Every setting that can be sent is one that use knows.
func TestUse_KnowsEverySetting(t *testing.T) {
	for _, setting := range provider.AllSettings() {
		f := provider.Family{Family: provider.IPv4, Address: netip.MustParseAddr("203.0.113.1"),
			Sources: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}, Members: []provider.Member{{Weight: 1}}}
		s := provider.Spec{Families: []provider.Family{f}, Listeners: []provider.Listener{{}}}
		before := fmt.Sprintf("%#v", s)
		if use(&s, setting); fmt.Sprintf("%#v", s) == before && !slices.Contains(provider.Unsaid, setting) && setting != "healthCheck.type=Auto" {
			t.Errorf("%s asks for nothing", setting)
		}
	}
}
