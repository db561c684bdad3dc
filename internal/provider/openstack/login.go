package openstack

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/config"
	"github.com/gophercloud/gophercloud/v2/openstack/config/clouds"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/apiversions"

	"github.com/external-lb/external-lb/internal/provider/caller"
)

// Login is the API of the load-balancer service of the cloud that the environment names, as OpenStack's own commands
// read it: that of clouds.yaml which OS_CLOUD names, or that of OS_AUTH_URL.
func Login(ctx context.Context) (*gophercloud.ServiceClient, error) { return login(ctx, maxCall) }

// login is that with the time that a request may take.
func login(ctx context.Context, timeout time.Duration) (*gophercloud.ServiceClient, error) {
	var beside []clouds.ParseOption
	if os.Getenv("OS_CLOUD") == "" {
		of, err := environment()
		if err != nil {
			return nil, err
		}
		beside = append(beside, clouds.WithCloudName("environment"), clouds.WithCloudsYAML(bytes.NewReader(of)))
	}
	auth, endpoint, tls, err := clouds.Parse(beside...)
	if err != nil {
		return nil, err
	}
	auth.AllowReauth = true
	via := http.DefaultTransport.(*http.Transport).Clone()
	via.TLSClientConfig = tls // gophercloud's own option for that would replace the bounds, too
	client, err := config.NewProviderClient(ctx, auth, config.WithHTTPClient(*caller.New(via, timeout, maxAnswer)))
	if err != nil {
		return nil, fmt.Errorf("logging in at %s: %.1000v", hostOf(auth.IdentityEndpoint), err) // it may have all of an answer in it
	}
	return openstack.NewLoadBalancerV2(client, endpoint)
}

// hostOf a URL. "": it has none.
func hostOf(endpoint string) string {
	u, err := url.Parse(endpoint)
	if err != nil {
		return ""
	}
	return u.Host
}

// Of each request.
const (
	maxCall   = time.Minute
	maxAnswer = 32 << 20 // bytes: a page of Octavia's may have all load balancers
)

// environment is a clouds.yaml with the credentials of the environment: gophercloud's own reading of that does not know
// the domains of users and of projects, and what is beside credentials is read in one way.
func environment() ([]byte, error) {
	auth := clouds.AuthInfo{
		AuthURL:  os.Getenv("OS_AUTH_URL"),
		Username: os.Getenv("OS_USERNAME"), UserID: os.Getenv("OS_USER_ID"), Password: os.Getenv("OS_PASSWORD"),
		ApplicationCredentialID:     os.Getenv("OS_APPLICATION_CREDENTIAL_ID"),
		ApplicationCredentialName:   os.Getenv("OS_APPLICATION_CREDENTIAL_NAME"),
		ApplicationCredentialSecret: os.Getenv("OS_APPLICATION_CREDENTIAL_SECRET"),
		ProjectName:                 os.Getenv("OS_PROJECT_NAME"), ProjectID: os.Getenv("OS_PROJECT_ID"),
		UserDomainName: os.Getenv("OS_USER_DOMAIN_NAME"), UserDomainID: os.Getenv("OS_USER_DOMAIN_ID"),
		ProjectDomainName: os.Getenv("OS_PROJECT_DOMAIN_NAME"), ProjectDomainID: os.Getenv("OS_PROJECT_DOMAIN_ID"),
		DomainName: os.Getenv("OS_DOMAIN_NAME"), DomainID: os.Getenv("OS_DOMAIN_ID"),
	}
	if auth.AuthURL == "" {
		return nil, errors.New("say by OS_CLOUD which cloud of clouds.yaml it is, or by OS_AUTH_URL and the others who logs in where")
	}
	return json.Marshal(clouds.Clouds{Clouds: map[string]clouds.Cloud{"environment": {AuthInfo: &auth}}})
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
