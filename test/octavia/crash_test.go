package octavia

import (
	"context"
	"net/http"
	"testing"

	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/loadbalancers"

	"github.com/external-lb/external-lb/internal/provider/openstack"
	"github.com/external-lb/external-lb/internal/provider/providertest"
	"github.com/external-lb/external-lb/provider"
)

func specOf(ports ...uint16) *provider.Spec {
	return providertest.SpecOf(new(openstack.Cloud), ports...)
}

// newCloud is a new provider for a project, whose requests go through a transport.
func (s *scene) newCloud(project string, through func(http.RoundTripper) http.RoundTripper) *openstack.Cloud {
	api := s.cloud.API(project)
	api.HTTPClient.Transport = through(api.HTTPClient.Transport)
	return &openstack.Cloud{API: api, Options: openstack.Options{Subnet: Subnet}}
}

// A provider that dies before or after any write finds all that it has made when it comes back, and nothing twice.
func TestCrash_BetweenAnyTwoCalls(t *testing.T) {
	t.Parallel()
	providertest.Crashes{
		New: func(through func(http.RoundTripper) http.RoundTripper) provider.Cloud {
			return env.newCloud(Project, through)
		},
		Writes:  func(r *http.Request) bool { return r.Method != http.MethodGet },
		Sources: true,
		Alone:   env.alone,
	}.Run(t)
}

// alone wants one load balancer with the tags of a Service, or none.
func (s *scene) alone(t *testing.T, id provider.ID, there bool) {
	t.Helper()
	all, err := s.cloud.tagged(context.WithoutCancel(t.Context()), loadbalancers.ListOpts{Tags: []string{serviceTag + id.Service}})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != map[bool]int{true: 1}[there] {
		t.Errorf("%d load balancers have its tags", len(all))
	}
}
