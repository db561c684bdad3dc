package octavia

import (
	"strings"
	"testing"

	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/loadbalancers"

	"github.com/external-lb/external-lb/test/wait"
)

// What is asked of every provider holds on a real Octavia, with real traffic. What other tests make meanwhile is
// in another project.
func TestProvider_KeepsItsContract(t *testing.T) {
	t.Parallel()
	const project = "contract"
	p := env.startProvider(t, Place{Project: project, Subnet: Subnet})
	stranger := env.stranger(t, project, "203.0.113.3")
	look := func(what string) string { return "nsenter --net=/run/netns/cloud " + env.cloud.Look(project, what) }
	// not in the box of Octavia: datagrams to a load balancer would not leave it
	check, err := env.Command(t.Context(), "client", env.binary(), "provider", "check", p.URL, "--token-file", p.Token, "--ca", p.CA,
		"--member", env.Addrs("client")[0].String(), "--address", wanted, "--timeout", wait.Patience.String(), "--drift", look("drift"), "--strangers", look("strangers"))
	if err != nil {
		t.Fatal(err)
	}
	out, err := check.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatal(err)
	}
	const none = "not tried  certificate:  it offers none"
	if strings.Count(string(out), "not tried") != 1 || !strings.Contains(string(out), none) {
		t.Errorf("want all but %q tried", none)
	}
	if _, err := loadbalancers.Get(t.Context(), env.cloud.API(project), stranger).Extract(); err != nil {
		t.Error(err)
	}
}
