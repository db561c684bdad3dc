package provider

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Client asks a provider. What answers is not trusted further than the contract: answers are
// bounded, and words in them are made printable.
type Client struct {
	base  string
	token string
	http  *http.Client
}

// NewClient makes one for a provider's URL, without the version. It must be https, but on
// loopback. roots are certificates in PEM; nil: those of the system.
func NewClient(base, token string, roots []byte) (*Client, error) {
	u, err := url.Parse(base)
	switch {
	case err != nil:
		return nil, err
	case u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil:
		return nil, fmt.Errorf("%.80q: want a URL such as https://provider.example.net", base)
	case u.Scheme != "https" && (u.Scheme != "http" || !loopback(u.Hostname())):
		return nil, fmt.Errorf("%.80q: want https, so that nobody reads the token on the way", base)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxResponseHeaderBytes = 64 << 10
	if roots != nil {
		transport.TLSClientConfig = &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
		if !transport.TLSClientConfig.RootCAs.AppendCertsFromPEM(roots) {
			return nil, errors.New("there is no certificate in PEM to trust")
		}
	}
	return &Client{base: strings.TrimSuffix(u.String(), "/"), token: token, http: &http.Client{
		Transport: transport,
		Timeout:   3 * time.Minute,
		// Elsewhere the token is nobody's business.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

func loopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.IsLoopback()
}

// Capabilities asks what the cloud can do.
func (c *Client) Capabilities(ctx context.Context) (Capabilities, error) {
	var out Capabilities
	if err := c.Do(ctx, http.MethodGet, "/v1/capabilities", nil, &out); err != nil {
		return Capabilities{}, err
	}
	return out, out.Check()
}

// Put says what is wanted.
func (c *Client) Put(ctx context.Context, id ID, spec Spec) (LoadBalancer, error) {
	body, err := json.Marshal(spec)
	if err != nil {
		return LoadBalancer{}, err
	}
	if len(body) > MaxBody { // who does not read all of it may break the connection off, and tell nobody why
		return LoadBalancer{}, tooLarge()
	}
	return c.one(ctx, http.MethodPut, id, body)
}

// Get reads one load balancer back.
func (c *Client) Get(ctx context.Context, id ID) (LoadBalancer, error) {
	return c.one(ctx, http.MethodGet, id, nil)
}

// Delete says that none is wanted. Only NotFound says that none is there.
func (c *Client) Delete(ctx context.Context, id ID) (LoadBalancer, error) {
	return c.one(ctx, http.MethodDelete, id, nil)
}

// List reads all of a cluster back, sorted by Service.
func (c *Client) List(ctx context.Context, cluster string) ([]LoadBalancer, error) {
	var all []LoadBalancer
	for after, refused := "", 0; ; {
		var page List
		if err := c.Do(ctx, http.MethodGet, clusterPath(cluster)+"?after="+url.QueryEscape(after), nil, &page); err != nil {
			return nil, err
		}
		if len(page.LoadBalancers) > MaxPage || len(all) > MaxList {
			return nil, notTheContract(fmt.Sprintf("more than %d load balancers on a page, or %d in all", MaxPage, MaxList))
		}
		for _, b := range page.LoadBalancers {
			if err := b.check(); err != nil {
				return nil, err
			}
			if b.Service <= after {
				return nil, notTheContract("a list is not sorted by Service")
			}
			after = b.Service
			refused += len(b.Refused)
			all = append(all, b.tidy())
		}
		if refused > MaxRefused {
			return nil, notTheContract(fmt.Sprintf("more than %d refused listeners in a list", MaxRefused))
		}
		if !page.More {
			return all, nil
		}
		if len(page.LoadBalancers) == 0 {
			return nil, notTheContract("an empty page that is not the last")
		}
	}
}

func clusterPath(cluster string) string {
	return "/v1/clusters/" + url.PathEscape(cluster) + "/loadbalancers"
}

func (c *Client) one(ctx context.Context, method string, id ID, body []byte) (LoadBalancer, error) {
	var out LoadBalancer
	if err := c.Do(ctx, method, clusterPath(id.Cluster)+"/"+url.PathEscape(id.Service), body, &out); err != nil {
		return LoadBalancer{}, err
	}
	if out.Service != id.Service {
		return LoadBalancer{}, notTheContract("an answer for another Service")
	}
	if err := out.check(); err != nil {
		return LoadBalancer{}, err
	}
	return out.tidy(), nil
}

func notTheContract(what string) error {
	return &Error{Code: Internal, Message: clip("the provider does not keep to its contract: " + what)}
}

// Do sends any request, also one that is not in the contract, and decodes its answer.
func (c *Client) Do(ctx context.Context, method, path string, body []byte, into any) error {
	request, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	if c.token != "" {
		request.Header.Set("Authorization", "Bearer "+c.token)
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := c.http.Do(request)
	if err != nil {
		return fmt.Errorf("the provider cannot be reached: %w", err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, MaxAnswer+1))
	switch {
	case err != nil:
		return fmt.Errorf("the provider cannot be reached: %w", err)
	case len(answer) > MaxAnswer:
		return notTheContract("more than " + strconv.Itoa(MaxAnswer) + " bytes")
	case response.StatusCode != http.StatusOK:
		return refusal(response, answer)
	}
	err = checkValues(answer)
	if err == nil {
		err = json.Unmarshal(answer, into) // newer fields are passed over
	}
	if err != nil {
		return notTheContract(clip(err.Error()))
	}
	return nil
}

// strangersRetryAfter is for how many seconds something on the way to a provider is believed that it is away.
const strangersRetryAfter = 60

// refusal is what a provider says, or what something on the way to it does. So a 404 alone
// is no proof of absence. Either may say when to ask again by the header alone.
func refusal(response *http.Response, answer []byte) error {
	var e Error
	code, known := 0, false
	if checkValues(answer) == nil && json.Unmarshal(answer, &e) == nil {
		code, known = status[e.Code]
	}
	if !known || code != response.StatusCode {
		e = Error{Code: Unavailable, Message: fmt.Sprintf("HTTP status %d, and no words of a provider: is it one?", response.StatusCode)}
	}
	if e.RetryAfterSeconds == 0 {
		e.RetryAfterSeconds = RetryAfter(response.Header)
		if !known || code != response.StatusCode {
			e.RetryAfterSeconds = min(e.RetryAfterSeconds, strangersRetryAfter)
		}
	}
	e.Message, e.Field = clip(e.Message), clip(e.Field)
	e.RetryAfterSeconds = min(max(e.RetryAfterSeconds, 0), maxRetryAfter)
	return &e
}

// RetryAfter is what the header Retry-After says, an hour at most; 0: nothing, or nothing that can be read.
func RetryAfter(h http.Header) int32 {
	says := h.Get("Retry-After")
	seconds, err := strconv.Atoi(says)
	if err != nil {
		at, err := http.ParseTime(says)
		if err != nil {
			return 0
		}
		seconds = int(math.Ceil(time.Until(at).Seconds()))
	}
	return int32(min(max(seconds, 0), maxRetryAfter))
}
