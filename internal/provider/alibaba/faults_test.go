package alibaba

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/external-lb/external-lb/internal/provider/alibaba/alibabatest"
	"github.com/external-lb/external-lb/internal/provider/providertest"
	"github.com/external-lb/external-lb/provider"
	"github.com/external-lb/external-lb/test/wait"
)

// Reads that are throttled are tried again; a write tells when to ask again.
func TestFault_Throttled(t *testing.T) {
	eachKind(t, func(t *testing.T, s scene) {
		want := *providertest.SpecOf(s.Cloud, 80)
		left := 3
		s.with(func(c *alibabatest.Cloud) {
			c.Fault = func(action string, _ map[string]string) *alibabatest.Fault {
				if left--; left >= 0 || action == "CreateLoadBalancer" {
					return &alibabatest.Fault{Status: 400, Code: "Throttling.User", Message: "Request was denied due to user flow control."}
				}
				return nil
			}
		})
		_, err := s.Put(t.Context(), web, want)
		e, _ := errors.AsType[*provider.Error](err)
		if e == nil || e.Code != provider.Throttled || e.RetryAfterSeconds == 0 {
			t.Errorf("want Throttled with a time, got %v", err)
		}
		if left >= 0 {
			t.Errorf("reads were not tried again: %d faults are left", left)
		}
		s.with(func(c *alibabatest.Cloud) { c.Fault = nil })
		providertest.Reach(t, s, web, &want)
	})
}

// A read waits for as long as the API says, and where that is long, who asked is told when to ask again.
func TestFault_ThrottledUntil(t *testing.T) {
	eachKind(t, func(t *testing.T, s scene) {
		left, asked := 500, time.Time{}
		s.with(func(c *alibabatest.Cloud) {
			c.Fault = func(action string, _ map[string]string) *alibabatest.Fault {
				if asked.IsZero() {
					asked = time.Now()
					return &alibabatest.Fault{Status: 400, Code: "Throttling.Api", Message: "Request was denied due to api flow control.", TimeLeft: left}
				}
				if time.Since(asked) < time.Duration(left)*time.Millisecond {
					t.Errorf("%s after %s", action, time.Since(asked))
				}
				return nil
			}
		})
		if _, err := s.Get(t.Context(), web); !provider.Is(err, provider.NotFound) {
			t.Errorf("want NotFound, got %v", err)
		}
		s.with(func(c *alibabatest.Cloud) { left, asked = 60_000, time.Time{}; clear(c.Calls) })
		_, err := s.List(t.Context(), web.Cluster)
		if e, _ := errors.AsType[*provider.Error](err); e == nil || e.Code != provider.Throttled || e.RetryAfterSeconds != 61 {
			t.Errorf("want Throttled for 61 seconds, got %v", err)
		}
		s.with(func(c *alibabatest.Cloud) {
			if len(c.Calls) != 1 {
				t.Errorf("it went on asking: %v", c.Calls)
			}
		})
	})
}

// A port that the account may not have any more is told, and the others are carried.
func TestFault_QuotaOfListeners(t *testing.T) {
	eachKind(t, func(t *testing.T, s scene) {
		want := *providertest.SpecOf(s.Cloud, 80, 443)
		s.with(func(c *alibabatest.Cloud) { c.Quota = map[string]int{"listeners": 1} })
		o := s.puts(t, want, func(o provider.Observed) bool {
			return o.State == provider.Live && len(o.Refused) == 1 && o.Spec.Digest() == want.Without(o.Refused).Digest()
		})
		if r := o.Refused[0]; r.Port != 443 || r.Reason != provider.QuotaExceeded || r.Message == "" {
			t.Errorf("refused %+v", r)
		}
		s.with(func(c *alibabatest.Cloud) { c.Quota = nil })
		providertest.Reach(t, s, web, &want)
	})
}

func TestFault_QuotaOfLoadBalancers(t *testing.T) {
	eachKind(t, func(t *testing.T, s scene) {
		s.with(func(c *alibabatest.Cloud) { c.Quota = map[string]int{"balancers": 0} })
		if _, err := s.Put(t.Context(), web, *providertest.SpecOf(s.Cloud, 80)); !provider.Is(err, provider.QuotaExceeded) {
			t.Errorf("want QuotaExceeded, got %v", err)
		}
	})
}

// A node that is no instance of the VPC is told, and holds no other up.
func TestFault_ANodeIsNoInstance(t *testing.T) {
	s := newScene(t, "clb")
	want := full(s.Cloud)
	absent := want.Families[0].Members[1].Address
	s.with(func(c *alibabatest.Cloud) { c.Absent = func(a netip.Addr) bool { return a == absent } })
	without := full(s.Cloud)
	without.Families[0].Members = without.Families[0].Members[:1]
	o := s.puts(t, want, func(o provider.Observed) bool { return o.Spec.Digest() == without.Digest() })
	if o.State != provider.Pending || !strings.Contains(o.Message, absent.String()) {
		t.Errorf("%s: %s", o.State, o.Message)
	}
}

// Who may not read instances is told of none, by an empty list. Members that are there stay.
func TestFault_NoInstanceIsTold(t *testing.T) {
	s := newScene(t, "clb")
	want := full(s.Cloud)
	providertest.Reach(t, s, web, &want)
	s.with(func(c *alibabatest.Cloud) {
		c.Absent = func(netip.Addr) bool { return true }
		clear(c.Calls)
	})
	again := scene{newCloud(t, s.double, s.Options, providertest.Same), s.double} // which knows no instance yet
	o, err := again.Put(t.Context(), web, want)
	if err != nil || o.State != provider.Pending || !strings.Contains(o.Message, "no instance of the VPC") {
		t.Errorf("%s: %s, %v", o.State, o.Message, err)
	}
	s.with(func(c *alibabatest.Cloud) {
		if n := c.Calls["RemoveVServerGroupBackendServers"]; n > 0 {
			t.Errorf("servers were removed by %d calls", n)
		}
		c.Absent = nil
	})
	providertest.Reach(t, again, web, &want)
}

// A twin that is protected is told, holds up no nodePort, and sends to none.
func TestTwin_ThatIsProtectedIsClosed(t *testing.T) {
	eachKind(t, func(t *testing.T, s scene) {
		want := *providertest.SpecOf(s.Cloud, 80, 443)
		providertest.Reach(t, s, web, &want)
		s.change(t, "protected twin")
		want.Listeners[0].NodePort = 30999
		s.puts(t, want, func(o provider.Observed) bool {
			return strings.Contains(o.Message, "DeletionProtection") && strings.Contains(s.double.Servers(web.Service), ":30999") && s.double.Open(web.Service) == 2
		})
		s.unprotect()
		providertest.Reach(t, s, web, &want)
	})
}

// One that is protected does not go. Nothing of it sends to nodePorts any more, and its twin goes.
func TestDelete_OfAProtectedOneClosesIt(t *testing.T) {
	eachKind(t, func(t *testing.T, s scene) {
		want := *providertest.SpecOf(s.Cloud, 80, 443)
		providertest.Reach(t, s, web, &want)
		s.change(t, "protection")
		s.change(t, "twin")
		s.with(func(c *alibabatest.Cloud) { c.Protect(false, "-twin") })
		within(t, func(ctx context.Context) error {
			_, err := s.Delete(ctx, web)
			if !provider.Is(err, provider.Internal) || !strings.Contains(err.Error(), "DeletionProtection") {
				return wait.GiveUp(fmt.Errorf("want that it is protected, got %v", err))
			}
			if open := s.double.Open(web.Service); open > 0 {
				return fmt.Errorf("%d listeners are left", open)
			}
			if left := strings.Join(s.double.Owned(web.Cluster, web.Service), " "); strings.Contains(left, "-twin") {
				return errors.New(left)
			}
			return nil
		})
		s.unprotect()
		providertest.Reach(t, s, web, nil)
	})
}

// What the cloud refuses for one port by a code of its own costs that port alone. Who has no rights is told once.
func TestFault_OfOnePortCostsItAlone(t *testing.T) {
	eachKind(t, func(t *testing.T, s scene) {
		want := *providertest.SpecOf(s.Cloud, 80, 443)
		refuse := func(code string) {
			s.with(func(c *alibabatest.Cloud) {
				c.Fault = func(action string, p map[string]string) *alibabatest.Fault {
					if strings.HasPrefix(action, "Create") && strings.HasSuffix(action, "Listener") && p["ListenerPort"] == "80" {
						return &alibabatest.Fault{Status: 400, Code: code, Message: "Because."}
					}
					return nil
				}
			})
		}
		refuse("OperationDenied.Whatever")
		o := s.puts(t, want, func(o provider.Observed) bool {
			return o.State == provider.Live && len(o.Refused) == 1 && o.Spec.Digest() == want.Without(o.Refused).Digest()
		})
		if r := o.Refused[0]; r.Port != 80 || r.Reason != provider.Internal || !strings.Contains(r.Message, "Because.") {
			t.Errorf("refused %+v", r)
		}
		refuse("Forbidden.RAM")
		if _, err := s.Put(t.Context(), web, want); !provider.Is(err, provider.Internal) || !strings.Contains(err.Error(), "credentials") {
			t.Errorf("without rights: %v", err)
		}
	})
}

// Where no node is known, nothing is made that costs something.
func TestFault_NoInstanceAtAllMakesNothing(t *testing.T) {
	s := newScene(t, "clb")
	s.with(func(c *alibabatest.Cloud) { c.Absent = func(netip.Addr) bool { return true } })
	o, err := s.Put(t.Context(), web, full(s.Cloud))
	if made := s.double.Owned(web.Cluster, web.Service); err != nil || o.State != provider.Pending || !strings.Contains(o.Message, "no instance of the VPC") || len(made) > 0 {
		t.Errorf("%s: %s, %v, made %v", o.State, o.Message, err, made)
	}
}

// A load balancer that was asked for and is not listed yet is not gone.
func TestDelete_WaitsForWhatIsNotListedYet(t *testing.T) {
	eachKind(t, func(t *testing.T, s scene) {
		hidden := true
		s.with(func(c *alibabatest.Cloud) { c.Listed = func(string, time.Time) bool { return !hidden } })
		want := *providertest.SpecOf(s.Cloud, 80)
		if _, err := s.Put(t.Context(), web, want); err != nil {
			t.Fatal(err)
		}
		_, err := s.Delete(t.Context(), web)
		if e, _ := errors.AsType[*provider.Error](err); e == nil || e.Code != provider.Immutable || e.RetryAfterSeconds == 0 {
			t.Errorf("it is there, and Delete says %v", err)
		}
		s.with(func(*alibabatest.Cloud) { hidden = false })
		providertest.Reach(t, s, web, nil)
		if left := s.double.Owned(web.Cluster, web.Service); len(left) > 0 {
			t.Errorf("left over: %v", left)
		}
	})
}

// A list of networks that cannot be made is told, and holds no node up.
func TestFault_OfAListHoldsNoMemberUp(t *testing.T) {
	s := newScene(t, "clb")
	want := *providertest.SpecOf(s.Cloud, 80)
	providertest.Reach(t, s, web, &want)
	s.fails("CreateAccessControlList", "AclNumberOverLimit")
	want.Families[0].Sources = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}
	want.Listeners[0].NodePort = 30999
	within(t, func(ctx context.Context) error {
		_, err := s.Put(ctx, web, want)
		if !provider.Is(err, provider.QuotaExceeded) {
			return wait.GiveUp(fmt.Errorf("want QuotaExceeded, got %v", err))
		}
		if got := s.double.Servers(web.Service); !strings.Contains(got, ":30999") {
			return errors.New(got)
		}
		return nil
	})
}

// A twin that serves stays while the older one cannot.
func TestTwin_ThatServesStays(t *testing.T) {
	eachKind(t, func(t *testing.T, s scene) {
		want := *providertest.SpecOf(s.Cloud, 80)
		providertest.Reach(t, s, web, &want)
		s.change(t, "twin")
		s.with(func(c *alibabatest.Cloud) { c.LockBut("-twin") })
		o, err := s.Put(t.Context(), web, want)
		if err != nil || o.State == provider.Live {
			t.Errorf("%s, %v", o.State, err)
		}
		if left := strings.Join(s.double.Owned(web.Cluster, web.Service), " "); !strings.Contains(left, "-twin") {
			t.Errorf("left are %s", left)
		}
	})
}

// What nobody knows to be made is asked for again as the same one, also where another flavor is wanted meanwhile.
func TestToken_IsOneForAllThatIsWanted(t *testing.T) {
	s := newScene(t, "clb private")
	hidden, lost := true, true
	s.with(func(c *alibabatest.Cloud) {
		c.Listed = func(string, time.Time) bool { return !hidden }
		c.Lost = func(action string) bool { return action == "CreateLoadBalancer" && lost }
	})
	want := *providertest.SpecOf(s.Cloud, 80)
	if _, err := s.Put(t.Context(), web, want); !provider.Is(err, provider.Internal) {
		t.Fatalf("want an answer that says nothing, got %v", err)
	}
	lost = false
	want.Flavor = "big"
	if _, err := s.Put(t.Context(), web, want); err == nil {
		o, err := s.Put(t.Context(), web, want)
		if err != nil || o.Reason != provider.Immutable {
			t.Errorf("%+v, %v", o, err)
		}
	}
	if made := s.double.Owned(web.Cluster, web.Service); len(made) != 1 {
		t.Errorf("made %v", made)
	}
	s.with(func(*alibabatest.Cloud) { hidden = false })
	want.Flavor = ""
	providertest.Reach(t, s, web, &want)
}

// One that was refused is not waited for.
func TestDelete_OfOneThatWasRefused(t *testing.T) {
	s := newScene(t, "nlb")
	s.with(func(c *alibabatest.Cloud) { c.Quota = map[string]int{"balancers": 0} })
	if _, err := s.Put(t.Context(), web, *providertest.SpecOf(s.Cloud, 80)); !provider.Is(err, provider.QuotaExceeded) {
		t.Fatal(err)
	}
	if _, err := s.Delete(t.Context(), web); !provider.Is(err, provider.NotFound) {
		t.Errorf("want NotFound, got %v", err)
	}
}

// What a port that is there already cannot have is told in the cloud's words.
func TestFault_QuotaOfServers(t *testing.T) {
	for kind, action := range map[string]string{"nlb": "AddServersToServerGroup", "clb": "AddVServerGroupBackendServers"} {
		s := newScene(t, kind)
		want := *providertest.SpecOf(s.Cloud, 80)
		providertest.Reach(t, s, web, &want)
		s.fails(action, "QuotaExceeded.Servers")
		want.Families[0].Members = append(want.Families[0].Members, provider.Member{Address: netip.MustParseAddr("192.0.2.12"), Weight: 1})
		s.puts(t, want, func(o provider.Observed) bool {
			return o.State == provider.Pending && o.Reason == provider.QuotaExceeded && strings.HasPrefix(o.Message, "port 80: ") && strings.Contains(o.Message, "Because.")
		})
	}
}
