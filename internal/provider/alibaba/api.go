package alibaba

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/alibabacloud-go/darabonba-openapi/v2/client"
	"github.com/alibabacloud-go/tea/dara"
	"github.com/aliyun/credentials-go/credentials"

	"github.com/external-lb/external-lb/internal/provider/caller"
	"github.com/external-lb/external-lb/provider"
)

// service is one of the vendor's APIs.
type service struct{ name, version string }

var (
	slbAPI = service{"slb", "2014-05-15"}
	nlbAPI = service{"nlb", "2022-04-30"}
	ecsAPI = service{"ecs", "2014-05-26"}
)

// API calls the vendor's APIs in one region, by the vendor's client. That has no types for single
// products, which are large and many: what we send and read is written down beside its use.
type API struct {
	region  string
	clients map[service]*client.Client
	slots   chan struct{} // of calls at a time
}

// Inside is the endpoint that stands for those of the region's services that a VPC reaches by itself.
const Inside = "vpc"

// NewAPI makes an API of credentials. Without an endpoint, each service is asked at its own in
// the region. via is what carries requests.
func NewAPI(region, endpoint string, c credentials.Credential, via http.RoundTripper) (*API, error) {
	a := &API{region: region, clients: map[service]*client.Client{}, slots: make(chan struct{}, maxCalls)}
	for _, s := range []service{slbAPI, nlbAPI, ecsAPI} {
		at := &url.URL{Scheme: "https", Host: host(s, region, endpoint == Inside)}
		if endpoint != "" && endpoint != Inside {
			var err error
			if at, err = url.Parse(endpoint); err != nil || at.Host == "" || at.Scheme != "https" && at.Scheme != "http" {
				return nil, fmt.Errorf("--endpoint: want %s or a URL, got %.80q", Inside, endpoint)
			}
		}
		c, err := client.NewClient(&client.Config{Credential: c, Protocol: &at.Scheme, Endpoint: &at.Host, HttpClient: carrier{caller.New(via, maxCall, maxAnswer)}})
		if err != nil {
			return nil, err
		}
		c.DisableSDKError = new(true) // that would make a text of the code
		a.clients[s] = c
	}
	return a, nil
}

// oldRegions are those in which SLB is asked at one place for all.
var oldRegions = []string{"ap-southeast-1", "cn-beijing", "cn-hangzhou", "cn-hangzhou-finance", "cn-hongkong", "cn-north-2-gov-1", "cn-qingdao",
	"cn-shanghai", "cn-shanghai-finance-1", "cn-shenzhen", "cn-shenzhen-finance-1", "us-east-1", "us-west-1"}

// host of a service in a region, as the vendor publishes them.
func host(s service, region string, inside bool) string {
	if inside {
		return s.name + "-vpc." + region + ".aliyuncs.com"
	}
	if s == slbAPI && slices.Contains(oldRegions, region) {
		return "slb.aliyuncs.com"
	}
	return s.name + "." + region + ".aliyuncs.com"
}

const (
	maxAnswer = 4 << 20 // bytes
	maxCall   = 30 * time.Second
	maxCalls  = 16 // at a time, of all requests: the API counts those of an account
)

// carrier is what the vendor's client sends requests by.
type carrier struct{ *http.Client }

// Call is what the vendor's client asks for. The other transport has its settings, of which we use none.
func (c carrier) Call(r *http.Request, _ *http.Transport) (*http.Response, error) { return c.Do(r) }

// params of a call, named as the API has them.
type params map[string]string

// call of an action of a service.
type call struct {
	service
	action string
	params params
}

func (c call) reads() bool {
	return strings.HasPrefix(c.action, "Describe") || strings.HasPrefix(c.action, "List")
}

// inQuery reports where the API has a parameter: in the query, or in the body's form.
func (c call) inQuery(name string) bool {
	return c.service != nlbAPI || c.action == "ListLoadBalancers" || c.action == "ListListeners" || c.reads() && strings.HasPrefix(name, "Tag.")
}

// busyTries are how often a read is tried that is throttled: one answer takes many reads, and
// would else never be whole. For longer than busyPause nobody waits: who asked is told when to ask again.
const (
	busyTries = 5
	busyPause = 3 * time.Second
)

// do a call, and count it. What reads is tried again where the API has too many requests.
func (s *session) do(ctx context.Context, c call, into any) error {
	for try := 0; ; try++ {
		s.count(c.reads())
		refused := s.api.send(ctx, c, into)
		err := said(refused)
		pause := max(time.Duration(100<<try)*time.Millisecond, timeLeft(refused))
		if !c.reads() || try == busyTries || !provider.Is(err, provider.Throttled) || pause > busyPause {
			return err
		}
		wait := time.NewTimer(pause + rand.N(100*time.Millisecond))
		select {
		case <-ctx.Done():
			wait.Stop()
			return err
		case <-wait.C:
		}
	}
}

func (a *API) send(ctx context.Context, c call, into any) error {
	query, form := map[string]*string{}, map[string]any{}
	for name, value := range (params{"RegionId": a.region}).with(c.params) {
		if c.inQuery(name) {
			query[name] = &value
		} else {
			form[name] = value
		}
	}
	request := &client.OpenApiRequest{Query: query}
	if len(form) > 0 {
		request.Body = form
	}
	select {
	case <-ctx.Done():
		return fmt.Errorf("%s: %w", c.action, ctx.Err())
	case a.slots <- struct{}{}:
		defer func() { <-a.slots }()
	}
	ctx, cancel := context.WithTimeout(ctx, maxCall)
	defer cancel()
	answer, err := a.clients[c.service].CallApiWithCtx(ctx, &client.Params{
		Action: &c.action, Version: &c.version, Protocol: new("HTTPS"), Pathname: new("/"), Method: new("POST"), AuthType: new("AK"),
		Style: new("RPC"), ReqBodyType: new("formData"), BodyType: new("string"),
	}, request, &dara.RuntimeOptions{})
	if err != nil {
		return fmt.Errorf("%s: %w", c.action, err)
	}
	body, _ := answer["body"].(string)
	if into == nil {
		into = &struct{}{}
	}
	if err := json.NewDecoder(strings.NewReader(body)).Decode(into); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("%s: the answer is no JSON: %w", c.action, err)
	}
	return nil
}

// refusal is what the vendor's client makes of an answer that is none of success.
type refusal interface {
	error
	GetCode() *string
	GetRetryAfter() *int64 // milliseconds
	GetData() map[string]any
}

// timeLeft until the API takes the call again, where it says so.
func timeLeft(err error) time.Duration {
	var r refusal
	if !errors.As(err, &r) {
		return 0
	}
	return time.Duration(min(dara.Int64Value(r.GetRetryAfter()), 3_600_000)) * time.Millisecond
}

// said is what the API says, by the code that the contract has for it.
func said(err error) error {
	var r refusal
	if !errors.As(err, &r) {
		if _, ours := errors.AsType[*provider.Error](err); ours || err == nil {
			return err
		}
		return &provider.Error{Code: provider.Unavailable, Message: err.Error(), RetryAfterSeconds: 5}
	}
	action, _, _ := strings.Cut(err.Error(), ": ")
	code := dara.StringValue(r.GetCode())
	message, _ := r.GetData()["Message"].(string)
	if strings.Contains(code, "Signature") && meaning(code) == provider.Internal { // it repeats what was signed, a token of the session with it
		message = "what was signed is not what came"
	}
	e := &provider.Error{Code: meaning(code), Message: action + ": " + code + ": " + message}
	switch e.Code {
	case provider.Throttled:
		e.RetryAfterSeconds = 5
		if after := timeLeft(err); after > 0 {
			e.RetryAfterSeconds = int32(min(after/time.Second+1, 3600))
		}
	case provider.Internal:
		if strings.Contains(code, "Forbidden") || strings.Contains(code, "NoPermission") || strings.Contains(code, "AccessKey") || strings.Contains(code, "SecurityToken") || strings.Contains(code, "Signature") {
			e.Message += seeCredentials
		}
	}
	return e
}

const seeCredentials = ": see the credentials of the provider"

// denied reports whether the account may not make a call at all.
func denied(e *provider.Error) bool { return strings.HasSuffix(e.Message, seeCredentials) }

// gone reports whether what was listed a moment ago is not there any more. Some of that has a code of its
// own, and some only words.
func gone(err error) bool {
	e, told := errors.AsType[*provider.Error](err)
	return told && !denied(e) && (strings.Contains(e.Message, "NotFound") || strings.Contains(e.Message, "does not exist"))
}

// meanings of codes, by what is in them. The first one counts.
var meanings = []struct {
	has string
	of  provider.Code
}{
	{"Throttling", provider.Throttled}, {"SystemBusy", provider.Throttled}, {"ServiceUnavailable", provider.Throttled},
	{"Quota", provider.QuotaExceeded}, {"OverLimit", provider.QuotaExceeded}, {"ResourceLimit", provider.QuotaExceeded},
	{"ResourceInUse.IP", provider.AddressTaken}, {"AssociateIpFail", provider.AddressTaken}, {"AllocateVpcInstanceFailed", provider.AddressTaken},
	{"IncorrectStatus", provider.Immutable}, {"Conflict.", provider.Immutable}, {"InConfiguring", provider.Immutable}, {"InCreating", provider.Immutable},
	{"ServiceIsConfiguring", provider.Immutable}, {"ServiceIsStopping", provider.Immutable}, {"VServerGroupProcessing", provider.Immutable},
	{"OperationBusy", provider.Immutable}, {"TokenIsProcessing", provider.Immutable}, {"IdempotenceProcessing", provider.Immutable},
	{"BackendServer.configuring", provider.Immutable}, {"ResourceInUse", provider.Immutable}, {"RspoolVipExist", provider.Immutable},
	{"ResourceNotFound.loadBalancer", provider.Immutable}, {"ResourceNotFound.listener", provider.Immutable}, // it went while we looked
	{"ResourceNotFound.serverGroup", provider.Immutable}, {"ResourceNotFound.BackendServer", provider.Immutable}, {"AclInUsed", provider.Immutable}, {"InvalidLoadBalancerId.NotFound", provider.Immutable},
	{"IdempotenceSignatureMismatch", provider.Immutable},
	{"AlreadyExist", provider.Immutable}, {"AclNameExist", provider.Immutable}, {"DuplicatedParam.Server", provider.Immutable}, // it is not listed yet
	{"IllegalParam", provider.Unsupported}, {"InvalidParam", provider.Unsupported}, {"Mismatch", provider.Unsupported}, {"MissingParam", provider.Unsupported},
	{"Unsupported", provider.Unsupported}, {"NotSupport", provider.Unsupported},
}

func meaning(code string) provider.Code {
	for _, m := range meanings {
		if strings.Contains(code, m.has) {
			return m.of
		}
	}
	return provider.Internal
}
