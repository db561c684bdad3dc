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

// writes are what the manager changes.
var writes = slices.Concat(
	rights("", "services/status", "patch", ""),
	rights(v1alpha1.GroupVersion.Group, "balancers balancers/status addresspools/status upstreampolicies/status", "patch", ""),
)

// Webhooks is what they are called together, and Admission is what the API server calls the
// policies that it asks itself.
const (
	Webhooks  = "webhooks"
	Admission = "validatingadmissionpolicies"
)

// webhooks tell of those that can keep the manager from writing.
func (c *checks) webhooks() {
	if why := c.Unread[Webhooks]; why != "" {
		c.skip("webhooks", why, more)
		return
	}
	if c.unread(Admission) {
		c.skip("webhooks", c.Unread[Admission], more)
	}
	found := false
	for _, w := range c.Webhooks {
		what := w.judges()
		switch {
		case what == "":
			continue
		case w.Closed:
			c.warn("webhooks", fmt.Sprintf("%s judges what the manager writes on %s, and refuses it while it does not answer", w.Name, what),
				"let the ServiceAccount of the manager pass, or be sure that it answers")
		default:
			c.warn("webhooks", fmt.Sprintf("%s judges what the manager writes on %s, and may refuse it", w.Name, what),
				"let the ServiceAccount of the manager pass, or be sure that it takes what the manager writes")
		}
		found = true
	}
	if !found {
		c.ok("webhooks", "none keeps the manager from writing")
	}
}

// judges names what of the manager's writes a webhook is asked about.
func (w Webhook) judges() string {
	var out []string
	for _, write := range writes {
		if !slices.Contains(out, write.Resource) && slices.ContainsFunc(w.Rules, func(r WebhookRule) bool { return r.judges(write) }) {
			out = append(out, write.Resource)
		}
	}
	return strings.Join(out, ", ")
}

func (r WebhookRule) judges(write Right) bool {
	resources := []string{write.Resource, "*", "*/*"}
	if sub := write.Subresource; sub != "" {
		resources = []string{write.Resource + "/" + sub, write.Resource + "/*", "*/" + sub, "*/*"}
	}
	return has(r.Groups, write.Group, "*") && has(r.Resources, resources...)
}

func has(list []string, wanted ...string) bool {
	return slices.ContainsFunc(list, func(item string) bool { return slices.Contains(wanted, item) })
}
