package preflight

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/explain"
	"github.com/external-lb/external-lb/internal/plan"
	"github.com/external-lb/external-lb/internal/record"
	"github.com/external-lb/external-lb/test/builder"
)

// definition is the schema of a kind, as this tree has it.
func definition(t *testing.T, plural string) map[string]any {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("../../config/crd/bases", "external-lb.dev_"+plural+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var crd struct {
		Spec struct {
			Versions []struct {
				Schema struct {
					OpenAPIV3Schema map[string]any `json:"openAPIV3Schema"`
				} `json:"schema"`
			} `json:"versions"`
		} `json:"spec"`
	}
	if err := yaml.Unmarshal(data, &crd); err != nil {
		t.Fatal(err)
	}
	return crd.Spec.Versions[0].Schema.OpenAPIV3Schema
}

func condition(kind string, status metav1.ConditionStatus, reason, message string) metav1.Condition {
	return metav1.Condition{Type: kind, Status: status, Reason: reason, Message: message}
}

// well are facts of which all is well.
func well(t *testing.T) *Facts {
	t.Helper()
	edge := builder.Balancer("edge").Hosts(v1alpha1.Host{Name: "lb1", Address: "192.0.2.5"}).Obj()
	edge.Status = v1alpha1.BalancerStatus{HostsInSync: "1/1", Services: 1, Nodes: 2}
	edge.Status.Conditions = []metav1.Condition{
		condition(v1alpha1.ConditionAccepted, metav1.ConditionTrue, v1alpha1.ReasonAccepted, ""),
		condition(v1alpha1.ConditionProgrammed, metav1.ConditionTrue, v1alpha1.ReasonProgrammed, ""),
		condition(v1alpha1.ConditionDegraded, metav1.ConditionFalse, v1alpha1.ReasonHealthy, ""),
	}
	edge.Status.Hosts = []v1alpha1.HostStatus{{Name: "lb1", State: v1alpha1.HostInSync, EngineVersion: "nginx/1.22.1"}}
	pool := *builder.AddressPool("public", "203.0.113.0/28").Obj()
	pool.Status.IPv4 = &v1alpha1.AddressUsage{Capacity: 16, Assigned: 1}
	svc := builder.Service("default", "web").Class("external-lb.dev/edge").Port(80).Obj()
	svc = record.Record{Holders: []string{"edge"}, Carrier: "edge", Addresses: builder.Addresses("203.0.113.1")}.Write(svc)
	svc.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "203.0.113.1"}}
	f := &Facts{
		Program: "v0.1.2", Kubernetes: "v1.37.2", Groups: []string{"apps", v1alpha1.GroupVersion.Group}, Namespace: "external-lb-system",
		Kinds: map[string]map[string]any{}, Unread: map[string]string{}, Works: explain.Manager{State: explain.OK, Message: "m-1 works"},
		Managers: []Deployment{{Name: "external-lb", Replicas: 2, Ready: 2, Updated: 2, Observed: true, Image: "registry.example:5000/external-lb:v0.1.0"}},
		Pools:    []v1alpha1.AddressPool{pool},
		Objects: plan.Objects{
			Balancers: []*v1alpha1.Balancer{edge}, Pools: plan.ParsePools([]v1alpha1.AddressPool{pool}), Services: []*corev1.Service{svc},
			Namespaces: map[string]labels.Set{"default": {}},
		},
	}
	for plural := range Kinds {
		f.Kinds[plural] = definition(t, plural)
	}
	return f
}

func lines(c Checks) string {
	var out strings.Builder
	for _, c := range c {
		fmt.Fprintf(&out, "%s %s: %s\n", c.State, c.Topic, c.Message)
	}
	return out.String()
}

func TestAllIsWell(t *testing.T) {
	want := strings.TrimLeft(`
ok kubernetes: v1.37.2
ok kinds: they are of this version
ok rights: yours are enough
ok rights: those of the manager are enough
ok manager: m-1 works
ok manager: 2 of 2 replicas of Deployment external-lb are ready
ok versions: the manager is v0.1.0, and this program v0.1.2
ok webhooks: none keeps the manager from writing
ok balancer edge: 1/1 hosts carry 1 Services to 2 nodes
ok host edge/lb1: InSync: nginx/1.22.1
ok pool public: 1 of 16 IPv4 addresses are assigned
ok services: of the 1 that Balancers serve, none says that it lacks its address
ok others: nobody else is seen to serve what Balancers serve
`, "\n")
	checks := Run(*well(t))
	if diff := cmp.Diff(want, lines(checks)); diff != "" || checks.Worst() != OK {
		t.Errorf("%s: %s", checks.Worst(), diff)
	}
}

func TestWhatIsNotWell(t *testing.T) {
	edge := func(f *Facts) *v1alpha1.Balancer { return f.Objects.Balancers[0] }
	web := func(f *Facts) *corev1.Service { return f.Objects.Services[0] }
	webhook := func(closed bool, group, resource string) Webhook {
		return Webhook{Name: "policy.example", Closed: closed, Rules: []WebhookRule{{[]string{group}, []string{resource}}}}
	}
	for name, c := range map[string]struct {
		change func(*Facts)
		want   string // begins a line
	}{
		"an old Kubernetes":     {func(f *Facts) { f.Kubernetes = "v1.29.4" }, "fail kubernetes: v1.29.4 is too old"},
		"a new Kubernetes":      {func(f *Facts) { f.Kubernetes = "v1.38.0-alpha.1" }, "warn kubernetes: v1.38.0-alpha.1 is newer than 1.37"},
		"not installed":         {func(f *Facts) { f.Groups = nil }, "fail kinds: external-lb is not installed"},
		"a kind is missing":     {func(f *Facts) { delete(f.Kinds, explain.Pools) }, "fail kinds: there is no addresspools.external-lb.dev/v1alpha1"},
		"definitions not read":  {func(f *Facts) { f.Unread[Definitions] = "you may not" }, "skip kinds: they are installed; of which version is not known: you may not"},
		"a right of one's own":  {func(f *Facts) { f.OwnLack = OwnRights("")[:4] }, "warn rights: you may not list balancers, list addresspools, list upstreampolicies and 1 more"},
		"a right of manager's":  {func(f *Facts) { f.ManagerLack = ManagerRights("system")[9:10] }, "fail rights: the manager may not patch services/status"},
		"rights not known":      {func(f *Facts) { f.Unread[Reviews] = "you may not" }, "skip rights: those of the manager: you may not"},
		"no manager":            {func(f *Facts) { f.Works = explain.Manager{State: explain.Wrong, Message: "gone"} }, "fail manager: gone"},
		"statuses are old then": {func(f *Facts) { f.Works = explain.Manager{State: explain.Wrong} }, "ok host edge/lb1: InSync: nginx/1.22.1, as the manager last saw it"},
		"no Lease":              {func(f *Facts) { f.Works = explain.Manager{State: explain.Unknown, Message: "no Lease"} }, "warn manager: no Lease"},
		"scaled to none":        {func(f *Facts) { f.Managers[0].Replicas = 0 }, "fail manager: Deployment external-lb is scaled to none"},
		"a replica is not well": {func(f *Facts) { f.Managers[0].Ready = 1 }, "warn manager: 1 of 2 replicas"},
		"no Deployment":         {func(f *Facts) { f.Managers = nil }, "skip manager: no Deployment of it is in external-lb-system"},
		"not read":              {func(f *Facts) { f.Unread[Deployments], f.Managers = "you may not", nil }, "skip manager: you may not"},
		"webhooks not read":     {func(f *Facts) { f.Unread[Webhooks] = "you may not" }, "skip webhooks: you may not"},
		"pools not read":        {func(f *Facts) { f.Unread[explain.Pools] = "you may not" }, "skip pools: you may not"},
		"two managers":          {func(f *Facts) { f.Managers = append(f.Managers, f.Managers[0]) }, "warn manager: there are 2 Deployments"},
		"another version":       {func(f *Facts) { f.Program = "v0.2.0" }, "warn versions: the manager is v0.1.0, and this program v0.2.0"},
		"a version of no tag":   {func(f *Facts) { f.Program = "devel" }, "ok versions: the manager's image is registry.example:5000/external-lb:v0.1.0, and this program devel"},
		"a digest":              {func(f *Facts) { f.Managers[0].Image = "r/external-lb@sha256:00" }, "ok versions: the manager's image is r/external-lb@sha256:00"},
		"a tag and a digest":    {func(f *Facts) { f.Managers[0].Image += "@sha256:00" }, "ok versions: the manager is v0.1.0, and this program v0.1.2"},
		"a webhook":             {func(f *Facts) { f.Webhooks = []Webhook{webhook(true, "", "services/status")} }, "warn webhooks: policy.example judges what the manager writes on services,"},
		"a webhook for all":     {func(f *Facts) { f.Webhooks = []Webhook{webhook(true, "*", "*/*")} }, "warn webhooks: policy.example judges what the manager writes on services, balancers, "},
		"a webhook that opens":  {func(f *Facts) { f.Webhooks = []Webhook{webhook(false, "*", "*/*")} }, "warn webhooks: policy.example judges what the manager writes on services, balancers, addresspools, upstreampolicies, and may refuse it"},
		"of finalizers":         {func(f *Facts) { f.Webhooks = []Webhook{webhook(true, v1alpha1.GroupVersion.Group, "balancers")} }, "warn webhooks: policy.example judges what the manager writes on balancers, and refuses"},
		"of Services' specs":    {func(f *Facts) { f.Webhooks = []Webhook{webhook(true, "", "services")} }, "ok webhooks: "},
		"policies not read":     {func(f *Facts) { f.Unread[Admission] = "you may not list them" }, "skip webhooks: you may not list them"},
		"a rollout is stuck":    {func(f *Facts) { f.Managers[0].Updated, f.Managers[0].Running = 1, []string{"r/external-lb:v0.1.1"} }, "warn manager: the rollout of Deployment external-lb is not done: of 2 replicas 1 are as it says now, with the image registry.example:5000/external-lb:v0.1.0, and 2 are ready"},
		"a rollout begins":      {func(f *Facts) { f.Managers[0].Observed = false }, "warn manager: the rollout of Deployment external-lb is not done"},
		"what runs then":        {func(f *Facts) { f.Managers[0].Updated, f.Managers[0].Running = 1, []string{"r/external-lb:v0.0.9"} }, "warn versions: the manager is v0.0.9, and"},
		"which is not known":    {func(f *Facts) { f.Managers[0].Updated = 1; f.Unread[ManagerPods] = "you may not" }, "skip versions: which version of Deployment external-lb runs: you may not"},
		"a webhook for pods":    {func(f *Facts) { f.Webhooks = []Webhook{webhook(true, "", "pods")} }, "ok webhooks: "},
		"a new Balancer":        {func(f *Facts) { edge(f).Status = v1alpha1.BalancerStatus{} }, "fail balancer edge: no manager has seen it yet"},
		"not accepted":          {func(f *Facts) { edge(f).Status.Conditions[0].Status = metav1.ConditionFalse }, "fail balancer edge: Accepted: "},
		"no nodes":              {func(f *Facts) { edge(f).Status.Nodes = 0 }, "fail balancer edge: no node may be a backend"},
		"not programmed": {func(f *Facts) {
			edge(f).Status.Conditions[1] = condition(v1alpha1.ConditionProgrammed, metav1.ConditionFalse, v1alpha1.ReasonHostsUnreachable, "0 of 1")
		}, "fail balancer edge: HostsUnreachable: 0 of 1"},
		"crowded": {func(f *Facts) {
			edge(f).Status.Hosts[0].Notes = []v1alpha1.HostNote{{Reason: v1alpha1.NoteConnections, Message: "connections are nearly used up"}}
		}, "warn host edge/lb1: InSync: nginx/1.22.1: connections are nearly used up"},
		"no API servers": {func(f *Facts) {
			edge(f).Status.Conditions[2] = condition(v1alpha1.ConditionDegraded, metav1.ConditionTrue, v1alpha1.ReasonNoAPIServers, "no node")
		}, "warn balancer edge: NoAPIServers: no node"},
		"a cloud": {func(f *Facts) {
			edge(f).Spec.Hosts, edge(f).Spec.Provider = nil, &v1alpha1.Provider{}
			edge(f).Status.Hosts = []v1alpha1.HostStatus{{Name: v1alpha1.ProviderHost, State: v1alpha1.HostUnreachable}}
		}, "fail host edge/" + v1alpha1.ProviderHost + ": Unreachable"},
		"a host down": {func(f *Facts) { edge(f).Status.Hosts[0].State = v1alpha1.HostUnreachable }, "fail host edge/lb1: Unreachable"},
		"a host that warns": {func(f *Facts) {
			edge(f).Status.Hosts[0].Notes = []v1alpha1.HostNote{{Reason: v1alpha1.NoteWarns, Message: "every node fails"}}
		}, "warn host edge/lb1: InSync: nginx/1.22.1: every node fails"},
		"a host at work":    {func(f *Facts) { edge(f).Status.Hosts[0].State = v1alpha1.HostDelivering }, "warn host edge/lb1: Delivering"},
		"a host taken out":  {func(f *Facts) { edge(f).Status.Hosts[0].Draining = true }, "warn host edge/lb1: it is taken out for maintenance"},
		"a new host":        {func(f *Facts) { edge(f).Status.Hosts = nil }, "warn host edge/lb1: the manager has not reported on it yet"},
		"too many ports":    {func(f *Facts) { web(f).Spec.Ports = make([]corev1.ServicePort, 110_000) }, "warn balancer edge: 110000 of at most 131072 ports"},
		"no Balancer":       {func(f *Facts) { f.Objects.Balancers = nil }, "warn balancers: there is no Balancer"},
		"no pool":           {func(f *Facts) { f.Pools = nil }, "warn pools: there is no AddressPool"},
		"a full pool":       {func(f *Facts) { f.Pools[0].Status.IPv4.Assigned = 15 }, "warn pool public: 15 of 16"},
		"a small full pool": {func(f *Facts) { f.Pools[0].Status.IPv4 = &v1alpha1.AddressUsage{Capacity: 2, Assigned: 2} }, "ok pool public: 2 of 2"},
		"a bad pool": {func(f *Facts) {
			f.Pools[0].Spec.Addresses = nil
			f.Objects.Pools = plan.ParsePools(f.Pools)
		}, "fail pool public: Invalid: "},
		"a Service that waits": {func(f *Facts) {
			web(f).Status.Conditions = append(web(f).Status.Conditions, condition(v1alpha1.ConditionServiceProgrammed, metav1.ConditionFalse, v1alpha1.ReasonPoolExhausted, ""))
		}, "fail services: PoolExhausted: default/web"},
		"another's address": {func(f *Facts) { web(f).Status.LoadBalancer.Ingress[0].IP = "192.0.2.77" }, "fail others: somebody else writes the status of Service default/web: 192.0.2.77"},
		"a cloud's address": {func(f *Facts) {
			svc := builder.Service("default", "web").Class("external-lb.dev/edge").Port(80).Obj()
			svc = record.Record{Holders: []string{"edge"}, Carrier: "edge", Addresses: builder.Addresses("0.0.0.0")}.Write(svc)
			svc.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.77"}}
			f.Objects.Services[0] = svc
		}, "ok others: "},
		"another default":    {func(f *Facts) { edge(f).Spec.Default = true; f.Groups = append(f.Groups, "metallb.io") }, "warn others: MetalLB is in this cluster, and Balancer edge"},
		"a class of nobody":  {func(f *Facts) { web(f).Spec.LoadBalancerClass = new("external-lb.dev/egde") }, "warn others: nobody serves the class external-lb.dev/egde"},
		"Services not read":  {func(f *Facts) { f.Unread[explain.Services] = "you may not" }, "skip services: you may not"},
		"Balancers not read": {func(f *Facts) { f.Unread[explain.Balancers], f.Objects.Balancers = "you may not", nil }, "skip balancers: you may not"},
	} {
		f := well(t)
		c.change(f)
		checks := Run(*f)
		i := slices.IndexFunc(checks, func(k Check) bool { return strings.HasPrefix(lines(Checks{k}), c.want) })
		if i < 0 {
			t.Errorf("%s: want %q, got\n%s", name, c.want, lines(checks))
			continue
		}
		bad := checks[i].State == Warn || checks[i].State == Fail
		if checks[i].State != OK && checks[i].Do == "" || bad && checks.Worst() == OK {
			t.Errorf("%s: it does not say what to do: %+v", name, checks[i])
		}
	}
}

// Kinds of another version are told by their fields.
func TestKindsOfAnotherVersion(t *testing.T) {
	properties := func(schema map[string]any, path ...string) map[string]any {
		for _, name := range path {
			schema, _ = schema["properties"].(map[string]any)[name].(map[string]any)
		}
		out, _ := schema["properties"].(map[string]any)
		return out
	}
	older, newer := well(t), well(t)
	delete(properties(older.Kinds[explain.Balancers], "spec", "reload"), "minInterval")
	properties(newer.Kinds[explain.Pools], "spec")["color"] = map[string]any{"type": "string"}
	for f, want := range map[*Facts]string{
		older: "fail kinds: balancers are older than this program: they lack spec.reload.minInterval",
		newer: "warn kinds: addresspools are newer than this program: they have spec.color",
	} {
		if got := lines(Run(*f)); !strings.Contains(got, want) {
			t.Errorf("want %q, got\n%s", want, got)
		}
	}
}

// The rights that are asked for are those that config/rbac gives.
func TestRightsAreThoseOfTheRoles(t *testing.T) {
	data, err := os.ReadFile("../../config/rbac/role.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var given []Right
	for part := range strings.SplitSeq(string(data), "\n---\n") {
		var role rbacv1.Role // a ClusterRole has the same fields
		if err := yaml.Unmarshal([]byte(part), &role); err != nil {
			t.Fatal(err)
		}
		for _, r := range role.Rules {
			given = append(given, rights(r.APIGroups[0], strings.Join(r.Resources, " "), strings.Join(r.Verbs, " "), role.Namespace)...)
		}
	}
	asked := ManagerRights("external-lb-system")
	byName := func(a, b Right) int { return strings.Compare(a.Group+" "+a.String(), b.Group+" "+b.String()) }
	slices.SortFunc(given, byName)
	slices.SortFunc(asked, byName)
	if diff := cmp.Diff(given, asked); diff != "" {
		t.Error(diff)
	}
}

// Where it is written what to do, and which versions are meant, others say, too.
func TestPagesSayTheSame(t *testing.T) {
	for page, wants := range map[string][]string{
		"troubleshooting.md":        {"\n## " + seeManager, "\n## " + seeBalancer, "\n## " + seeHost, "\n## " + seeDegraded, "\n## " + seeNodes, "\n## " + seeAddress, "\n## " + seeOthers},
		"reference/version-skew.md": {oldestKubernetes + " and later", "tested on " + newestKubernetes},
		"howto/from-metallb.md":     {"# "},
	} {
		text, err := os.ReadFile("../../docs/" + page)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range wants {
			if !strings.Contains(string(text), want) {
				t.Errorf("docs/%s lacks %q", page, want)
			}
		}
	}
}
