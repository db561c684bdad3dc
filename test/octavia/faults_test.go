package octavia

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/loadbalancers"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/quotas"

	"github.com/external-lb/external-lb/internal/provider/openstack"
	"github.com/external-lb/external-lb/internal/provider/providertest"
	"github.com/external-lb/external-lb/provider"
	"github.com/external-lb/external-lb/test/wait"
)

// stranger makes a load balancer in a project that is not ours, and returns its ID.
func (s *scene) stranger(t *testing.T, project, address string) string {
	t.Helper()
	api := s.cloud.API(project)
	lb, err := loadbalancers.Create(t.Context(), api, loadbalancers.CreateOpts{Name: "theirs", VipSubnetID: Subnet, VipAddress: address}).Extract()
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.WithoutCancel(t.Context())
	t.Cleanup(func() {
		if err := loadbalancers.Delete(ctx, api, lb.ID, loadbalancers.DeleteOpts{Cascade: true}).ExtractErr(); err != nil {
			t.Error(err)
		}
	})
	s.finished(t, lb.ID)
	return lb.ID
}

// finished waits until Octavia is not at work on a load balancer.
func (s *scene) finished(t *testing.T, id string) {
	t.Helper()
	wait.For(t, func(ctx context.Context) error {
		lb, err := loadbalancers.Get(ctx, s.cloud.API(Project), id).Extract()
		if err == nil && strings.HasPrefix(lb.ProvisioningStatus, "PENDING_") {
			err = errors.New(lb.ProvisioningStatus)
		}
		return err
	})
}

// An address that somebody else has is told as that, in the words of Neutron.
func TestFault_TheAddressIsTaken(t *testing.T) {
	t.Parallel()
	const address = "203.0.113.5"
	env.stranger(t, Project, address)
	want := specOf(80)
	want.Families[0].Address = netip.MustParseAddr(address)
	_, err := env.newCloud(Project, providertest.Same).Put(t.Context(), provider.ID{Cluster: "faults", Service: "taken"}, *want)
	if !provider.Is(err, provider.AddressTaken) {
		t.Errorf("want AddressTaken, got %v", err)
	}
}

// Where the project may have no more, the Service is told so, and gets it when it may.
func TestFault_TheQuotaIsReached(t *testing.T) {
	t.Parallel()
	const project = "poor"
	api := env.cloud.API(project)
	limit := func(n int) {
		t.Helper()
		if err := quotas.Update(context.WithoutCancel(t.Context()), api, project, quotas.UpdateOpts{Listener: &n}).Err; err != nil {
			t.Fatal(err)
		}
	}
	limit(0)
	t.Cleanup(func() { limit(-1) })
	c, id := env.newCloud(project, providertest.Same), provider.ID{Cluster: "faults", Service: "quota"}
	providertest.Until(t, c, id, specOf(80), func(_ provider.Observed, err error) error {
		if !provider.Is(err, provider.QuotaExceeded) {
			return fmt.Errorf("want QuotaExceeded, got: %v", err)
		}
		return nil
	})
	limit(-1)
	providertest.Reach(t, c, id, specOf(80))
	env.ends(t, c, id)

	// One that may have one port of two carries that one.
	limit(1)
	want := specOf(80, 443)
	env.answers(t, want)
	var address string
	wait.For(t, func(context.Context) error {
		o, err := c.Put(t.Context(), id, *want)
		if err == nil && (o.State != provider.Live || len(o.Refused) != 1 || o.Spec.Digest() != want.Without(o.Refused).Digest()) {
			err = fmt.Errorf("it is %s with %v refused", o.State, o.Refused)
		}
		if err != nil {
			return err
		}
		if r := o.Refused[0]; r.Port != 443 || r.Reason != provider.QuotaExceeded || !strings.Contains(r.Message, "Quota") {
			t.Errorf("refused: %+v", r)
		}
		address = o.Addresses[0].IP.String()
		return nil
	})
	wait.For(t, func(context.Context) error { _, err := env.ask(address); return err })
	limit(-1)
	providertest.Reach(t, c, id, want)
	env.ends(t, c, id)
}

// answers makes the client's box the member, which answers HTTP on the nodePort of the first port.
func (s *scene) answers(t *testing.T, want *provider.Spec) {
	t.Helper()
	port := s.nodePort()
	want.Families[0].Members[0].Address, want.Listeners[0].NodePort = s.Addrs("client")[0], port
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "client") })}
	l := s.listen(t, "client", port)
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { server.Close() })
}

// Where the data plane cannot open a port, Octavia has in ERROR what was changed last. That port is refused, the
// others are not, and it is made anew until it works.
func TestFault_AListenerInError(t *testing.T) {
	t.Parallel()
	const address = "203.0.113.4"
	taken, err := env.ListenIn(t.Context(), "cloud", address+":80")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	want := specOf(80, 443)
	want.Families[0].Address = netip.MustParseAddr(address)
	c, id := env.newCloud(Project, providertest.Same), provider.ID{Cluster: "faults", Service: "error"}
	t.Cleanup(func() {
		if t.Failed() {
			look, err := env.Exec(context.WithoutCancel(t.Context()), "cloud", "/bin/sh", "-c", env.cloud.Look(Project, "show"))
			t.Log(look, err)
		}
	})
	providertest.Until(t, c, id, want, func(o provider.Observed, err error) error {
		if err == nil && (o.State != provider.Live || len(o.Refused) == 0 || o.Spec.Digest() != want.Without(o.Refused).Digest()) {
			err = fmt.Errorf("it is %s with %v refused", o.State, o.Refused)
		}
		return err
	})
	taken.Close()
	providertest.Reach(t, c, id, want)
	env.ends(t, c, id)
}

// ends asks until nothing is left.
func (s *scene) ends(t *testing.T, c *openstack.Cloud, id provider.ID) {
	t.Helper()
	providertest.Reach(t, c, id, nil)
	s.alone(t, id, false)
}
