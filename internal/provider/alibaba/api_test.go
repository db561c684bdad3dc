package alibaba

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/external-lb/external-lb/internal/provider/providertest"
	"github.com/external-lb/external-lb/provider"
)

func TestSaid_HasTheCodeOfTheContract(t *testing.T) {
	s := newScene(t, "nlb")
	for code, want := range map[string]provider.Code{
		"Throttling": provider.Throttled, "Throttling.Api": provider.Throttled, "SystemBusy": provider.Throttled, "ServiceUnavailable": provider.Throttled,
		"QuotaExceeded.QuotaInsufficient": provider.QuotaExceeded, "OverQuota": provider.QuotaExceeded, "OperationForbidden.QuotaLimit": provider.QuotaExceeded,
		"ResourceInUse.IP": provider.AddressTaken, "Conflict.Lock": provider.Immutable, "IncorrectStatus.serverGroup": provider.Immutable,
		"ResourceInConfiguring.loadbalancer": provider.Immutable, "ServiceIsConfiguring": provider.Immutable, "OperationFailed.TokenIsProcessing": provider.Immutable,
		"IllegalParam.HealthCheckInterval": provider.Unsupported, "Forbidden.NoPermission": provider.Internal, "InsufficientBalance": provider.Internal,
		"OperationDenied.DeletionProtectionEnabled": provider.Internal, "ResourceAlreadyExist.listener": provider.Immutable,
	} {
		s.fails("CreateLoadBalancer", code)
		o, err := s.Put(t.Context(), web, *providertest.SpecOf(s.Cloud, 80))
		if want == provider.Immutable { // it passes
			if err != nil || o.State != provider.Pending || o.Reason != want || !strings.Contains(o.Message, code) {
				t.Errorf("%s: %+v, %v", code, o.LoadBalancer, err)
			}
		} else if !provider.Is(err, want) || !strings.Contains(err.Error(), "CreateLoadBalancer: "+code+": Because.") {
			t.Errorf("%s: want %s, got %v", code, want, err)
		}
	}
	nobody, err := NewAPI("cn-hangzhou", "http://127.0.0.1:1", s.API.clients[nlbAPI].Credential, http.DefaultTransport)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (&Cloud{API: nobody, Options: kinds["nlb"]}).Get(t.Context(), web); !provider.Is(err, provider.Unavailable) {
		t.Errorf("want Unavailable, got %v", err)
	}
}

// What is wrong with credentials is told with where to look, and without what was signed: that has the
// key's ID and a session's token in it, and Services show it.
func TestSaid_OfCredentials(t *testing.T) {
	s := newScene(t, "nlb")
	for code, words := range map[string]string{
		"Forbidden.RAM": "Because.", "NoPermission": "Because.", "InvalidAccessKeyId.NotFound": "Because.", "InvalidSecurityToken.Expired": "Because.",
		"SignatureDoesNotMatch": "", "IncompleteSignature": "",
	} {
		s.fails("ListLoadBalancers", code)
		_, err := s.Get(t.Context(), web)
		e, _ := errors.AsType[*provider.Error](err)
		if e == nil || !denied(e) || !strings.Contains(e.Message, "ListLoadBalancers: "+code+": "+words) || words == "" && strings.Contains(e.Message, "Because.") {
			t.Errorf("%s: %v", code, err)
		}
	}
}

// An endpoint that is no URL is told before anything is asked of nowhere.
func TestEndpoint_IsAURL(t *testing.T) {
	for _, wrong := range []string{"nlb.example.com", "vpcs", "ftp://nlb.example.com", "https://", "https://a b"} {
		if _, err := NewAPI("cn-hangzhou", wrong, nil, http.DefaultTransport); err == nil || !strings.Contains(err.Error(), "--endpoint") {
			t.Errorf("%q: %v", wrong, err)
		}
	}
}

func TestHost_IsThatOfTheRegion(t *testing.T) {
	for _, c := range []struct {
		service
		region, want string
		inside       bool
	}{
		{nlbAPI, "cn-hangzhou", "nlb.cn-hangzhou.aliyuncs.com", false}, {ecsAPI, "us-west-1", "ecs.us-west-1.aliyuncs.com", false},
		{slbAPI, "cn-hangzhou", "slb.aliyuncs.com", false}, {slbAPI, "cn-shanghai-finance-1", "slb.aliyuncs.com", false}, {slbAPI, "eu-central-1", "slb.eu-central-1.aliyuncs.com", false},
		{slbAPI, "cn-hangzhou", "slb-vpc.cn-hangzhou.aliyuncs.com", true}, {nlbAPI, "eu-central-1", "nlb-vpc.eu-central-1.aliyuncs.com", true},
	} {
		if got := host(c.service, c.region, c.inside); got != c.want {
			t.Errorf("%s in %s: %s", c.name, c.region, got)
		}
	}
}
