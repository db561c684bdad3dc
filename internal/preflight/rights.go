package preflight

import (
	"fmt"
	"slices"
	"strings"

	"github.com/external-lb/external-lb/api/v1alpha1"
)

// Right to do something with a kind, in one namespace or everywhere.
type Right struct{ Group, Resource, Subresource, Verb, Namespace string }

func (r Right) String() string {
	text := r.Verb + " " + r.Resource
	if r.Subresource != "" {
		text += "/" + r.Subresource
	}
	if r.Namespace != "" {
		text += " in " + r.Namespace
	}
	return text
}

// rights are verbs on resources of a group, separated by blanks.
func rights(group, resources, verbs, namespace string) (out []Right) {
	for resource := range strings.FieldsSeq(resources) {
		for verb := range strings.FieldsSeq(verbs) {
			r := Right{Group: group, Verb: verb, Namespace: namespace}
			r.Resource, r.Subresource, _ = strings.Cut(resource, "/")
			out = append(out, r)
		}
	}
	return out
}

// ManagerRights are those that a manager in a namespace needs: config/rbac gives them.
func ManagerRights(namespace string) []Right {
	ours := v1alpha1.GroupVersion.Group
	return slices.Concat(
		rights("", "services nodes namespaces", "get list watch", ""),
		rights("", "services/status", "patch", ""),
		rights("", "events", "create patch", ""),
		rights("discovery.k8s.io", "endpointslices", "get list watch", ""),
		rights(ours, "balancers", "get list watch patch", ""),
		rights(ours, "addresspools upstreampolicies", "get list watch", ""),
		rights(ours, "balancers/status addresspools/status upstreampolicies/status", "patch", ""),
		rights("", "secrets", "get list watch", namespace),
		rights("coordination.k8s.io", "leases", "get create update", namespace),
	)
}

// PodRights are those that a manager needs beside these for a Balancer that sends to pods:
// config/components/pods gives them.
func PodRights() []Right { return rights("", "pods", "get list watch", "") }

// OwnRights are those with which the commands that look at a cluster tell all.
func OwnRights(namespace string) []Right {
	return slices.Concat(
		rights(v1alpha1.GroupVersion.Group, "balancers addresspools upstreampolicies", "list", ""),
		rights("", "services nodes namespaces events", "list", ""),
		rights("discovery.k8s.io", "endpointslices", "list", ""),
		rights("coordination.k8s.io", "leases", "get", namespace),
	)
}

// Reviews is what an API server calls questions for the rights of others.
const Reviews = "subjectaccessreviews"

func (c *checks) rights() {
	if lack := c.OwnLack; len(lack) > 0 {
		c.warn("rights", fmt.Sprintf("you may not %s", join(lack)), more+", or be told less: by this command, status and explain")
	} else {
		c.ok("rights", "yours are enough")
	}
	switch {
	case c.unread(Reviews):
		c.skip("rights", "those of the manager: "+c.Unread[Reviews], more)
	case len(c.ManagerLack) > 0:
		c.fail("rights", fmt.Sprintf("the manager may not %s", join(c.ManagerLack)), "kubectl apply -k config/default gives it what it needs, as the chart does; for Pods it is config/components/pods, or pods.enabled of the chart")
	default:
		c.ok("rights", "those of the manager are enough")
	}
}

func join(rights []Right) string {
	words := make([]string, len(rights))
	for i, r := range rights {
		words[i] = r.String()
	}
	return few(words)
}

// writes are the resources whose status the manager writes.
var writes = map[string][]string{"": {"services"}, v1alpha1.GroupVersion.Group: {"balancers", "addresspools", "upstreampolicies"}}

// Webhooks is what they are called together.
const Webhooks = "webhooks"

// webhooks tell of those that can keep the manager from writing.
func (c *checks) webhooks() {
	if why := c.Unread[Webhooks]; why != "" {
		c.skip("webhooks", why, more)
		return
	}
	found := false
	for _, w := range c.Webhooks {
		if what := w.judges(); w.Closed && what != "" {
			found = true
			c.warn("webhooks", fmt.Sprintf("%s judges what the manager writes on %s, and refuses it while it does not answer", w.Name, what),
				"let the ServiceAccount of the manager pass, or be sure that it answers")
		}
	}
	if !found {
		c.ok("webhooks", "none keeps the manager from writing")
	}
}

// judges names what of the manager's writes a webhook is asked about.
func (w Webhook) judges() string {
	var out []string
	for _, group := range []string{"", v1alpha1.GroupVersion.Group} {
		for _, resource := range writes[group] {
			if slices.ContainsFunc(w.Rules, func(r WebhookRule) bool {
				return has(r.Groups, group, "*") && has(r.Resources, resource+"/status", "*/*", "*/status", resource+"/*")
			}) {
				out = append(out, resource)
			}
		}
	}
	return strings.Join(out, ", ")
}

func has(list []string, wanted ...string) bool {
	return slices.ContainsFunc(list, func(item string) bool { return slices.Contains(wanted, item) })
}
