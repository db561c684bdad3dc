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
	"net/http"
	"net/netip"
	"net/url"
	"slices"
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
	out = out.known()
	return out, out.Check()
}

// Put says what is wanted.
func (c *Client) Put(ctx context.Context, id ID, spec Spec) (LoadBalancer, error) {
	body, err := json.Marshal(spec)
	if err != nil {
		return LoadBalancer{}, err
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
	for after := ""; ; {
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
			all = append(all, b.tidy())
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

// check that an answer is within the contract.
func (b LoadBalancer) check() error {
	if what := b.wrong(); what != "" {
		return notTheContract(what)
	}
	return nil
}

// wrong is what of an answer is out of the contract; "": nothing is.
func (b LoadBalancer) wrong() string {
	if !slices.Contains([]State{Pending, Live, Failed, Deleting}, b.State) {
		return fmt.Sprintf("the state %.40q", b.State)
	}
	if b.Digest != "" && !sum.MatchString(b.Digest) || b.State == Live && b.Digest == "" {
		return fmt.Sprintf("%s with the digest %.80q", b.State, b.Digest)
	}
	if slices.ContainsFunc(b.Refused, func(r Refusal) bool { return !slices.Contains(protocols, r.Protocol) }) {
		return "a refusal of a port of no protocol"
	}
	if len(b.Addresses) > 4 || len(b.Refused) > MaxListeners || !label.MatchString(b.Service) {
		return "more addresses or refusals than a load balancer has, or no Service"
	}
	if !label.MatchString(b.Namespace) || !label.MatchString(b.Name) {
		return "a load balancer without its Service's namespace and name"
	}
	for _, a := range b.Addresses {
		_, err := netip.ParseAddr(a.Hostname)
		named := err != nil && !a.IP.IsValid() && len(a.Hostname) <= 253 && hostname.MatchString(a.Hostname) &&
			(a.Family == IPv4 || a.Family == IPv6)
		if numbered := a.Hostname == "" && a.Family.Has(a.IP) && !odd(a.IP); !named && !numbered {
			return fmt.Sprintf("the address %v %.80q of %.10q", a.IP, a.Hostname, a.Family)
		}
	}
	return ""
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
	if err := json.Unmarshal(answer, into); err != nil { // newer fields are passed over
		return notTheContract(clip(err.Error()))
	}
	return nil
}

// refusal is what a provider says, or what something on the way to it does. So a 404 alone
// is no proof of absence.
func refusal(response *http.Response, answer []byte) error {
	var e Error
	code, known := 0, false
	if json.Unmarshal(answer, &e) == nil {
		code, known = status[e.Code]
	}
	if !known || code != response.StatusCode {
		return &Error{Code: Unavailable, Message: fmt.Sprintf("HTTP status %d, and no words of a provider: is it one?", response.StatusCode)}
	}
	e.Message, e.Field = clip(e.Message), clip(e.Field)
	e.RetryAfterSeconds = min(max(e.RetryAfterSeconds, 0), maxRetryAfter)
	return &e
}
