package preflight

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/version"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/admit"
	"github.com/external-lb/external-lb/internal/explain"
	"github.com/external-lb/external-lb/internal/record"
)

// Deployments is what an API server calls them.
const Deployments = "deployments"

// ManagerPods are what their Pods are called together.
const ManagerPods = "pods of the manager"

func (c *checks) manager() {
	switch c.Works.State {
	case explain.OK:
		c.ok("manager", "%s", c.Works.Message)
	case explain.Wrong:
		c.fail("manager", c.Works.Message, see(seeManager))
	default:
		c.warn("manager", c.Works.Message, "say its namespace: --namespace. Or "+see(seeManager))
	}
	switch {
	case c.unread(Deployments):
		c.skip("manager", c.Unread[Deployments], more)
	case len(c.Managers) == 0:
		c.skip("manager", "no Deployment of it is in "+c.Namespace+": it runs in another way", "compare its version with this one: "+c.Program)
	}
	for _, d := range c.Managers {
		switch {
		case d.Replicas == 0:
			c.fail("manager", "Deployment "+d.Name+" is scaled to none", "kubectl -n "+c.Namespace+" scale deployment "+d.Name+" --replicas=2")
		case !d.rolledOut():
			c.warn("manager", fmt.Sprintf("the rollout of Deployment %s is not done: of %d replicas %d are as it says now, with the image %s, and %d are ready, old ones too",
				d.Name, d.Replicas, d.Updated, d.Image, d.Ready), "kubectl -n "+c.Namespace+" describe pods -l app.kubernetes.io/name=external-lb says what new ones wait for: an image that cannot be pulled, say")
		case d.Ready < d.Replicas:
			c.warn("manager", fmt.Sprintf("%d of %d replicas of Deployment %s are ready", d.Ready, d.Replicas, d.Name), see(seeManager))
		default:
			c.ok("manager", "%d of %d replicas of Deployment %s are ready", d.Ready, d.Replicas, d.Name)
		}
	}
	if len(c.Managers) > 1 {
		c.warn("manager", fmt.Sprintf("there are %d Deployments of managers in %s", len(c.Managers), c.Namespace), "keep one of them")
	}
}

// version of the managers that run against that of this program.
func (c *checks) version() {
	for _, d := range c.Managers {
		running := d.Running
		switch {
		case running == nil && !d.rolledOut():
			why := "its Pods do not say"
			if c.unread(ManagerPods) {
				why = c.Unread[ManagerPods]
			}
			c.skip("versions", "which version of Deployment "+d.Name+" runs: "+why, more)
		case running == nil:
			running = []string{d.Image}
		}
		for _, image := range running {
			c.image(image)
		}
	}
}

func (c *checks) image(full string) {
	image, _, _ := strings.Cut(full, "@")
	_, tag, _ := strings.Cut(image[strings.LastIndex(image, "/")+1:], ":")
	theirs, err := version.ParseSemantic(tag)
	ours, failed := version.ParseSemantic(c.Program)
	switch {
	case err != nil || failed != nil:
		c.ok("versions", "the manager's image is %s, and this program %s: they cannot be compared", full, c.Program)
	case theirs.Major() != ours.Major() || theirs.Minor() != ours.Minor():
		c.warn("versions", fmt.Sprintf("the manager is %s, and this program %s", tag, c.Program),
			"use the same minor version: see docs/reference/version-skew.md")
	default:
		c.ok("versions", "the manager is %s, and this program %s", tag, c.Program)
	}
}

// old is said of statuses that nobody keeps true.
func (c *checks) old() string {
	if c.Works.State == explain.Wrong {
		return ", as the manager last saw it"
	}
	return ""
}

func (c *checks) balancer(b *v1alpha1.Balancer) {
	topic := "balancer " + b.Name
	accepted := meta.FindStatusCondition(b.Status.Conditions, v1alpha1.ConditionAccepted)
	switch {
	case accepted == nil:
		c.fail(topic, "no manager has seen it yet", see(seeManager))
		return
	case accepted.Status != metav1.ConditionTrue:
		c.fail(topic, accepted.Reason+": "+accepted.Message, see(seeBalancer))
	case b.Status.Nodes == 0 && !b.Spec.ToPods():
		c.fail(topic, "no node may be a backend, so nothing answers"+c.old(), see(seeNodes))
	case meta.IsStatusConditionFalse(b.Status.Conditions, v1alpha1.ConditionProgrammed):
		p := meta.FindStatusCondition(b.Status.Conditions, v1alpha1.ConditionProgrammed)
		c.fail(topic, p.Reason+": "+p.Message+c.old(), see(seeBalancer))
	case b.Spec.ToPods():
		c.ok(topic, "%s hosts carry %d Services to their pods%s", b.Status.HostsInSync, b.Status.Services, c.old())
	default:
		c.ok(topic, "%s hosts carry %d Services to %d nodes%s", b.Status.HostsInSync, b.Status.Services, b.Status.Nodes, c.old())
	}
	c.degraded(topic, b)
	for _, h := range b.Spec.AllHosts() {
		c.host(b, h)
	}
	c.limits(topic, b)
}

// degraded tells what no host tells itself.
func (c *checks) degraded(topic string, b *v1alpha1.Balancer) {
	d := meta.FindStatusCondition(b.Status.Conditions, v1alpha1.ConditionDegraded)
	own := []string{v1alpha1.ReasonHostsDiffer, v1alpha1.ReasonTemplatesInvalid, v1alpha1.ReasonItemsRefused, v1alpha1.ReasonNoAPIServers, v1alpha1.ReasonSecretsUnreadable}
	if d != nil && d.Status == metav1.ConditionTrue && slices.Contains(own, d.Reason) {
		c.warn(topic, d.Reason+": "+d.Message+c.old(), see(seeDegraded))
	}
}

func (c *checks) host(b *v1alpha1.Balancer, h v1alpha1.Host) {
	topic := "host " + b.Name + "/" + h.Name
	i := slices.IndexFunc(b.Status.Hosts, func(s v1alpha1.HostStatus) bool { return s.Name == h.Name })
	if i < 0 {
		c.warn(topic, "the manager has not reported on it yet", "wait; if it stays so, "+see(seeManager))
		return
	}
	s := b.Status.Hosts[i]
	text := string(s.State)
	said := []string{s.EngineVersion, s.Message}
	for _, n := range s.Notes {
		said = append(said, n.Message)
	}
	for _, more := range said {
		if more != "" {
			text += ": " + more
		}
	}
	text += c.old()
	switch {
	case s.Draining:
		c.warn(topic, "it is taken out for maintenance. "+text, "take drain from spec.hosts when it is done")
	case s.State == v1alpha1.HostUnreachable || s.State == v1alpha1.HostFailed:
		c.fail(topic, text, see(seeBalancer))
	case s.State == v1alpha1.HostInSync && len(s.Notes) == 0:
		c.ok(topic, "%s", text)
	case s.State == v1alpha1.HostInSync || s.State == v1alpha1.HostPartial:
		c.warn(topic, text, see(seeHost))
	default:
		c.warn(topic, text, "a delivery is on its way: ask again")
	}
}

// nearly is how much of a limit is too much.
const nearly = 0.8

// limits that are built in, of hosts.
func (c *checks) limits(topic string, b *v1alpha1.Balancer) {
	if b.Spec.Provider != nil {
		return
	}
	listeners, addresses := 0, map[string]bool{}
	for _, svc := range c.of(b) {
		has := record.Addresses(svc)
		listeners += len(has) * len(svc.Spec.Ports)
		for _, a := range has {
			addresses[a.String()] = true
		}
	}
	c.limit(topic, "ports", listeners, admit.MaxListeners)
	if b.Spec.UsesVRRP() {
		c.limit(topic, "addresses that VRRP moves", len(addresses), admit.MaxAddresses)
	}
}

func (c *checks) limit(topic, what string, used, most int) {
	if float64(used) > nearly*float64(most) {
		c.warn(topic, fmt.Sprintf("%d of at most %d %s are in use", used, most, what), "spread the Services over more Balancers")
	}
}
