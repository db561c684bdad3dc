package preflight

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/explain"
	"github.com/external-lb/external-lb/internal/plan"
)

// State of a check.
type State string

// States, the worse the later.
const (
	OK   State = "ok"
	Skip State = "skip" // it could not be looked at
	Warn State = "warn" // it works, and may not for long
	Fail State = "fail"
)

// Check is one thing that was looked at.
type Check struct {
	Topic   string `json:"check"`
	State   State  `json:"state"`
	Message string `json:"message"`
	Do      string `json:"do,omitempty"` // where it is not ok
}

// Checks are in the order in which they are to be mended.
type Checks []Check

// Worst is the state of the worst of them. What was not looked at is not known to be wrong.
func (c Checks) Worst() State {
	for _, s := range []State{Fail, Warn} {
		if slices.ContainsFunc(c, func(c Check) bool { return c.State == s }) {
			return s
		}
	}
	return OK
}

// Facts are what could be read. Of what could not, Unread has why, by the kind as an API
// server calls it.
type Facts struct {
	Program    string // version of this program
	Kubernetes string // version of the API server
	Groups     []string
	Kinds      map[string]map[string]any // the schemas of our kinds, by their plural
	Unread     map[string]string

	Namespace string // of the manager
	Works     explain.Manager
	Managers  []Deployment

	OwnLack     []Right // that whoever asks does not have
	ManagerLack []Right

	Objects  plan.Objects
	Pools    []v1alpha1.AddressPool
	Webhooks []Webhook
}

// Deployment of managers.
type Deployment struct {
	Name           string
	Replicas       int32
	Ready          int32    // also of those before a rollout
	Updated        int32    // as the Deployment says now
	Observed       bool     // what the Deployment says now is what its numbers are about
	Image          string   // as the Deployment says now
	Running        []string // images of the Pods, each once; nil: not known
	ServiceAccount string
}

// rolledOut reports whether all replicas are as a Deployment says now.
func (d Deployment) rolledOut() bool { return d.Observed && d.Updated >= d.Replicas }

// Webhook, or policy, that is asked before something is written.
type Webhook struct {
	Name   string
	Closed bool // what it does not answer is refused
	Rules  []WebhookRule
}

// WebhookRule is what a webhook is asked about when it is changed.
type WebhookRule struct{ Groups, Resources []string }

// Run looks at all of it.
func Run(f Facts) Checks {
	c := &checks{Facts: f, claims: plan.NewClaims(f.Objects.Balancers, f.Objects.Pools.Accepted, f.Objects.Namespaces)}
	c.kubernetes()
	if !c.kinds() {
		return c.all
	}
	c.rights()
	c.manager()
	c.version()
	c.webhooks()
	for _, b := range f.Objects.Balancers {
		c.balancer(b)
	}
	c.noBalancer()
	c.pools()
	c.services()
	c.others()
	return c.all
}

// checks in the making.
type checks struct {
	Facts
	claims plan.Claims
	all    Checks
}

func (c *checks) ok(topic, format string, args ...any) {
	c.all = append(c.all, Check{Topic: topic, State: OK, Message: fmt.Sprintf(format, args...)})
}

// skip what nobody could look at.
func (c *checks) skip(topic, message, do string) {
	c.all = append(c.all, Check{topic, Skip, message, do})
}

// more is what to do where rights are lacking.
const more = "ask with more rights"

func (c *checks) warn(topic, message, do string) {
	c.all = append(c.all, Check{topic, Warn, message, do})
}

func (c *checks) fail(topic, message, do string) {
	c.all = append(c.all, Check{topic, Fail, message, do})
}

// see is where it is written what to do.
func see(heading string) string { return fmt.Sprintf("see %q in docs/troubleshooting.md", heading) }

// Headings of docs/troubleshooting.md.
const (
	seeManager  = "No manager works"
	seeBalancer = "A Balancer is not programmed"
	seeHost     = "A host says that something is wrong"
	seeDegraded = "Hosts differ, or their templates are broken"
	seeNodes    = "A node gets no traffic"
	seeAddress  = "A Service has no address"
	seeOthers   = "The address of a Service changes to and fro"
)

func (c *checks) unread(kind string) bool { return c.Unread[kind] != "" }

func (c *checks) noBalancer() {
	switch {
	case c.unread(explain.Balancers):
		c.skip("balancers", c.Unread[explain.Balancers], more+": what hosts and Services tell is not looked at")
	case len(c.Objects.Balancers) == 0:
		c.warn("balancers", "there is no Balancer", "make one: config/samples has it")
	}
}

func name(svc *corev1.Service) string { return svc.Namespace + "/" + svc.Name }

// of a Balancer are the Services that it holds.
func (c *checks) of(b *v1alpha1.Balancer) (out []*corev1.Service) {
	for _, svc := range c.Objects.Services {
		if c.claims.Of(svc) == b {
			out = append(out, svc)
		}
	}
	return out
}
