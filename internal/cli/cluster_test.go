package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/yaml"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/controllers"
	"github.com/external-lb/external-lb/internal/deliver"
	"github.com/external-lb/external-lb/internal/host"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/plan"
)

// inCluster is an API server with the objects of manifests.
func inCluster(t *testing.T, manifests string) client.Client {
	t.Helper()
	o, err := readManifests([]string{"-"}, corev1.NamespaceDefault, strings.NewReader(manifests))
	if err != nil {
		t.Fatal(err)
	}
	builder := fake.NewClientBuilder().WithScheme(controllers.Scheme()).WithObjects(leaseOf("manager-1", time.Now()))
	for _, b := range o.balancers {
		builder.WithObjects(b)
	}
	for _, p := range o.pools {
		builder.WithObjects(&p)
	}
	for _, svc := range o.services {
		builder.WithObjects(svc)
	}
	for _, n := range o.nodes {
		builder.WithObjects(n)
	}
	return builder.Build()
}

// leaseOf who was at work at a time.
func leaseOf(who string, renewed time.Time) *coordinationv1.Lease {
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: defaultNamespace, Name: leaseName}}
	hold(lease, who, 14*time.Second, renewed)
	return lease
}

const twoHosts = `
apiVersion: external-lb.dev/v1alpha1
kind: Balancer
metadata: {name: edge}
spec:
  default: true
  hosts:
  - {name: lb1, address: 192.0.2.5, secretRef: {name: edge-ssh}}
  - {name: lb2, address: 192.0.2.6, secretRef: {name: edge-ssh}}
status:
  hosts:
  - {name: lb1, state: InSync, engineVersion: nginx/1.22.1, digest: 0123456789abcdef, desiredDigest: 0123456789abcdef,
     notes: [{reason: ClockDiffers, message: its clock is behind}]}
  conditions:
  - {type: Accepted, status: "True", reason: Accepted, message: ok, lastTransitionTime: null}
  - {type: Programmed, status: "False", reason: HostsUnreachable, message: "1 of 2 hosts", lastTransitionTime: null}
---
apiVersion: external-lb.dev/v1alpha1
kind: Balancer
metadata: {name: bare}
spec:
  nodes: {selector: {matchLabels: {role: none}}}
  hosts: [{name: here, local: {}}]
---
apiVersion: external-lb.dev/v1alpha1
kind: AddressPool
metadata: {name: public}
spec: {balancer: edge, addresses: [203.0.113.0/28]}
status:
  ipv4: {capacity: 16, assigned: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: LoadBalancer, ports: [{port: 80, nodePort: 30080}, {port: 443, nodePort: 30443}]}
status:
  loadBalancer: {ingress: [{ip: 203.0.113.4}]}
  conditions:
  - {type: external-lb.dev/Programmed, status: "True", reason: Programmed, message: ok, lastTransitionTime: null}
---
apiVersion: v1
kind: Service
metadata: {name: late}
spec: {type: LoadBalancer, ports: [{port: 53, protocol: UDP, nodePort: 30053}]}
status:
  conditions:
  - {type: external-lb.dev/Programmed, status: "False", reason: PoolExhausted, message: "public is full", lastTransitionTime: null}
---
apiVersion: v1
kind: Node
metadata: {name: node1}
status: {addresses: [{type: InternalIP, address: 10.0.0.1}]}
`

func statusOf(t *testing.T, kube client.Client, output string) string {
	t.Helper()
	o, err := readCluster(t.Context(), kube)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := printStatus(&out, o, output); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestStatusIsATree(t *testing.T) {
	want := strings.TrimLeft(`
Balancer bare  nginx  class external-lb.dev/bare  ! the controller has not seen it yet: is it running?
├─ hosts
│  └─ here  Connecting  the controller has not reported on it yet
├─ nodes: none that may carry traffic
├─ pools: none, so no Service gets an address
└─ services: none

Balancer edge  nginx  class external-lb.dev/edge, default  ! HostsUnreachable: 1 of 2 hosts
├─ hosts
│  ├─ lb1  InSync  nginx/1.22.1  0123456789ab
│  │  └─ ! its clock is behind
│  └─ lb2  Connecting  the controller has not reported on it yet
├─ nodes: node1
├─ pools
│  └─ public  IPv4 1 of 16
└─ services
   ├─ default/late  no address  53/UDP  ! PoolExhausted: public is full
   └─ default/web  203.0.113.4  80/TCP 443/TCP
`, "\n")
	if diff := cmp.Diff(want, statusOf(t, inCluster(t, twoHosts), "tree")); diff != "" {
		t.Error(diff)
	}
	if got := statusOf(t, inCluster(t, ""), "tree"); !strings.Contains(got, "no Balancer yet") {
		t.Errorf("without a Balancer: %q", got)
	}
}

// What keeps a port from being carried is in two conditions of its Service.
func TestStatusDoesNotRepeatItself(t *testing.T) {
	const said = "LoadBalancerMixedProtocolNotSupported: nginx cannot carry 53/SCTP"
	conditions := func(programmed string) string {
		kube := inCluster(t, strings.Replace(twoHosts, `reason: PoolExhausted, message: "public is full", lastTransitionTime: null}`,
			`reason: LoadBalancerMixedProtocolNotSupported, message: "`+programmed+`", lastTransitionTime: null}
  - {type: LoadBalancerPortsError, status: "True", reason: LoadBalancerMixedProtocolNotSupported, message: nginx cannot carry 53/SCTP, lastTransitionTime: null}`, 1))
		return statusOf(t, kube, "tree")
	}
	for programmed, want := range map[string]string{
		"ports are refused: nginx cannot carry 53/SCTP":  "! LoadBalancerMixedProtocolNotSupported: ports are refused: nginx cannot carry 53/SCTP\n",
		"nginx cannot carry 53/SCTP":                     "! " + said + "\n",
		"nginx cannot carry 53/SCTP; and something more": "! " + said + "; and something more\n",
	} {
		if got := conditions(programmed); !strings.Contains(got, want) {
			t.Errorf("want %q, got\n%s", want, got)
		}
	}
}

// With --health each Service has what hosts say of its nodes. That nobody reaches it is said in any case.
func TestStatusWithHealth(t *testing.T) {
	for reason, problem := range map[string]string{"SomeNodesDown": "", "NoNodeUp": "  ! NoNodeUp: lb1: down: node1"} {
		kube := inCluster(t, twoHosts+`---
apiVersion: v1
kind: Service
metadata: {name: seen, namespace: default}
spec: {type: LoadBalancer, loadBalancerClass: external-lb.dev/edge, ports: [{port: 80, protocol: TCP}]}
status:
  conditions:
  - {type: external-lb.dev/Programmed, status: "True", reason: Programmed, message: live, lastTransitionTime: null}
  - {type: external-lb.dev/BackendsHealthy, status: "False", reason: `+reason+`, message: "lb1: down: node1", lastTransitionTime: null}
`)
		o, err := readCluster(t.Context(), kube)
		if err != nil {
			t.Fatal(err)
		}
		for _, health := range []bool{false, true} {
			o.health = health
			want := "default/seen  no address  80/TCP" + problem + "\n"
			if health {
				want += "   │  └─ nodes: " + reason + ": lb1: down: node1\n"
			}
			var out bytes.Buffer
			if err := printStatus(&out, o, "tree"); err != nil || !strings.Contains(out.String(), want) {
				t.Errorf("error %v, want %q, got\n%s", err, want, out.String())
			}
			if got := strings.Contains(out.String(), "nodes: nobody has said that any is down"); got != health {
				t.Errorf("--health %t, got\n%s", health, out.String())
			}
		}
	}
}

// A host that is out for maintenance is shown as that.
func TestStatusOfAHostThatIsDrained(t *testing.T) {
	for drained, want := range map[string]string{"true": "lb1  InSync  drained  toy/1", "false": "lb1  InSync  toy/1"} {
		kube := inCluster(t, `
apiVersion: external-lb.dev/v1alpha1
kind: Balancer
metadata: {name: edge}
spec: {engine: LVS, hosts: [{name: lb1, address: 192.0.2.1, drain: `+drained+`}]}
status:
  hosts: [{name: lb1, state: InSync, engineVersion: toy/1, draining: `+drained+`}]
`)
		if got := statusOf(t, kube, "tree"); !strings.Contains(got, want) {
			t.Errorf("want %q, got\n%s", want, got)
		}
	}
}

func TestStatusAsJSON(t *testing.T) {
	var got struct {
		Balancers []balancerView `json:"balancers"`
	}
	if err := json.Unmarshal([]byte(statusOf(t, inCluster(t, twoHosts), "json")), &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Balancers) != 2 {
		t.Fatalf("%d Balancers, want 2", len(got.Balancers))
	}
	edge := got.Balancers[1]
	if edge.Name != "edge" || edge.Services[1].Addresses[0] != "203.0.113.4" || edge.Services[0].Problem == "" {
		t.Errorf("got %+v", edge)
	}
	empty := statusOf(t, inCluster(t, ""), "json")
	if !strings.Contains(empty, `"balancers": []`) {
		t.Errorf("without a Balancer: %s; want an empty list, not null", empty)
	}
}

func TestStatusAsYAML(t *testing.T) {
	asYAML := statusOf(t, inCluster(t, twoHosts), "yaml")
	same, err := yaml.YAMLToJSON([]byte(asYAML))
	if err != nil {
		t.Fatal(err)
	}
	var got, want any
	if err := errors.Join(json.Unmarshal(same, &got), json.Unmarshal([]byte(statusOf(t, inCluster(t, twoHosts), "json")), &want)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestStatusInColour(t *testing.T) {
	p := paint(true)
	if got, want := p.state(v1alpha1.HostInSync), "\x1b[32mInSync\x1b[0m"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := p.warn(""); got != "" {
		t.Errorf("a warning of nothing: %q", got)
	}
	if newPaint(&bytes.Buffer{}) {
		t.Error("colours where no person reads")
	}
}

// machine is a host that runs some files.
type machine struct {
	deliver.Conn
	status host.Status
}

func (m machine) Status(context.Context) (host.Status, error) { return m.status, nil }
func (m machine) Close() error                                { return nil }

// carrying is what a host answers that carries these items, and proves it or does not.
func carrying(items lb.Manifest, proved bool) machine {
	return machine{status: host.Status{Running: true, Report: host.Report{Live: items, Wanted: items, Proved: proved, Generation: "g"}}}
}

func TestDiff(t *testing.T) {
	kube := inCluster(t, twoHosts)
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "system", Name: "edge-ssh"},
		Data:       map[string][]byte{corev1.SSHAuthPrivateKey: []byte("k"), "known_hosts": []byte("h")},
	}
	if err := kube.Create(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	o, err := readCluster(t.Context(), kube)
	if err != nil {
		t.Fatal(err)
	}
	b, err := o.balancer("edge")
	if err != nil {
		t.Fatal(err)
	}
	p, err := o.plan(b)
	if err != nil {
		t.Fatal(err)
	}
	want := p.Set.Digest()
	other := lb.Sums{"node/node1": {1}, "service/default/old/1": {2}}.Manifest()
	same := carrying(p.Set.Manifest(), true)
	refusing := carrying(p.Set.Manifest(), true)
	refusing.status.Refused = []lb.Refusal{{Key: "service/default/web/1", Listener: lb.Listener{Address: netip.MustParseAddr("203.0.113.4"), Port: 22, Protocol: lb.TCP}, Message: "sshd has it"}}
	web := p.Services[slices.IndexFunc(p.Services, func(s *plan.Service) bool { return s.Object.Name == "web" })].Key
	older := carrying(p.Set.Manifest(), true)
	older.status.Live = older.status.Live.With(lb.Sums{web: {1}})
	isNew := lb.Refusal{Key: web, Listener: refusing.status.Refused[0].Listener, Message: "it is new", OlderStays: true}
	older.status.Refused = []lb.Refusal{{Key: web, Message: "no", OlderStays: true}, isNew}
	tampered := carrying(p.Set.Manifest(), false)
	tampered.status.Message = "somebody has changed web.conf"
	silent := carrying(p.Set.Manifest(), false)
	silent.status.Generation = ""
	for name, test := range map[string]struct {
		lb2  machine
		err  error
		code int
		want string
	}{
		"no difference": {lb2: same, want: "lb2 (192.0.2.6): no difference, W\n"},
		"other items": {lb2: carrying(other, true), code: 1, want: `lb2 (192.0.2.6): carries L, should carry W
  ~ node node1
  + Service default/late
  + Service default/web
  - Service default/old

+ to be added  ~ to be changed  - to be removed
`},
		"a port refused": {lb2: refusing, code: 1, want: "  ! Service default/web lacks 203.0.113.4:22/TCP: sshd has it\n"},
		"an older version": {lb2: older, code: 1, want: "  ~ Service default/web  (refused: no)\n" +
			"  ! Service default/web lacks 203.0.113.4:22/TCP: it is new\n"},
		"tampered with": {lb2: tampered, code: 1, want: "  ! somebody has changed web.conf\n"},
		"not running":   {lb2: silent, code: 1, want: "carries nothing that it can prove, should carry W\n"},
		"unreachable":   {err: errors.New("no route"), code: 2, want: "lb2 (192.0.2.6): cannot be asked: no route\n"},
	} {
		t.Run(name, func(t *testing.T) {
			hosts, err := compare(t.Context(), kube, "system", "edge", asking{dial: func(_ context.Context, target deliver.Target) (deliver.Conn, error) {
				if target.Problem != nil || string(target.PrivateKey) != "k" {
					t.Errorf("the key of %s: %v", target.Host.Name, target.Problem)
				}
				if target.Host.Name == "lb1" {
					return same, nil
				}
				return test.lb2, test.err
			}})
			if err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			err = printDifferences(&out, hosts)
			code := 0
			if e, ok := errors.AsType[exit](err); ok {
				code = e.code
			}
			if code != test.code {
				t.Errorf("exit code %d (%v), want %d", code, err, test.code)
			}
			got := out.String()
			for _, svc := range o.services {
				got = strings.ReplaceAll(got, string(svc.UID), "UID")
			}
			got = strings.NewReplacer(want.Short(), "W", other.Digest().Short(), "L").Replace(got)
			if !strings.HasPrefix(got, "lb1 (192.0.2.5): no difference, W\n") || !strings.Contains(got, test.want) {
				t.Errorf("got\n%swant\n%s", got, test.want)
			}
		})
	}
}

func TestDiffOfHostsThatCannotBeReached(t *testing.T) {
	kube := inCluster(t, twoHosts)
	for balancer, want := range map[string]string{
		"edge": "there is no Secret system/edge-ssh: create it",
		"bare": "ask there, with external-lb host status",
	} {
		hosts, err := compare(t.Context(), kube, "system", balancer, asking{dial: dialHost})
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range hosts {
			if h.err == nil || !strings.Contains(h.err.Error(), want) {
				t.Errorf("%s: %v, want %q", h.host.Name, h.err, want)
			}
		}
	}
	if _, err := compare(t.Context(), kube, "system", "nobody", asking{dial: dialHost}); err == nil {
		t.Error("no error for a Balancer that is not there")
	}
}
