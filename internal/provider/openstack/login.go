package openstack

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/config"
	"github.com/gophercloud/gophercloud/v2/openstack/config/clouds"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/apiversions"
)

// noCloud is a clouds.yaml with nothing to say: what the environment says beside credentials is read as beside one.
const noCloud = "clouds: {environment: {auth: {}}}"

// Login is the API of the load-balancer service of the cloud that the environment names, as OpenStack's own commands
// read it: that of clouds.yaml which OS_CLOUD names, or that of OS_AUTH_URL.
func Login(ctx context.Context) (*gophercloud.ServiceClient, error) {
	var beside []clouds.ParseOption
	if os.Getenv("OS_CLOUD") == "" {
		beside = append(beside, clouds.WithCloudName("environment"), clouds.WithCloudsYAML(strings.NewReader(noCloud)))
	}
	auth, endpoint, tls, err := clouds.Parse(beside...)
	if err == nil && beside != nil {
		auth, err = openstack.AuthOptionsFromEnv()
	}
	if err != nil {
		return nil, err
	}
	auth.AllowReauth = true
	client, err := config.NewProviderClient(ctx, auth, config.WithTLSConfig(tls))
	if err != nil {
		return nil, fmt.Errorf("logging in: %w", err)
	}
	return openstack.NewLoadBalancerV2(client, endpoint)
}

// leastVersion is the first minor version of v2 with all that this provider asks for: pools of PROXYV2.
const leastVersion = 22

// CheckVersion is an error where Octavia is older than what is asked of it. An Octavia that does not say its version
// may be away, or behind something that hides that: then it is found out when it is asked for something.
func CheckVersion(ctx context.Context, api *gophercloud.ServiceClient) error {
	page, err := apiversions.List(api).AllPages(ctx)
	if err != nil {
		return nil
	}
	all, err := apiversions.ExtractAPIVersions(page)
	if err != nil {
		return nil
	}
	newest := -1
	for _, v := range all {
		if minor, is := strings.CutPrefix(v.ID, "v2."); is {
			if n, err := strconv.Atoi(minor); err == nil {
				newest = max(newest, n)
			}
		}
	}
	if newest >= 0 && newest < leastVersion {
		return fmt.Errorf("this Octavia has v2.%d of its API, and v2.%d is needed", newest, leastVersion)
	}
	return nil
}
