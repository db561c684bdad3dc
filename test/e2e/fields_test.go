package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/external-lb/external-lb/api/v1alpha1"
	contract "github.com/external-lb/external-lb/internal/engine"
	table "github.com/external-lb/external-lb/internal/engine/engines"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/test/builder"
	"github.com/external-lb/external-lb/test/cluster"
	"github.com/external-lb/external-lb/test/wait"
)

// fieldProof shows on real traffic what one field of the table does.
type fieldProof struct {
	settings  string // what a policy says, as YAML
	otherwise string // what the policy of a second Service says, where the difference shows; "": there is none
	http      bool   // the Service is one of HTTP
	asked     int32  // the nodePort of another port of the Service, of HTTP; 0: there is none
	alone     bool   // it changes something, and so comes before those that are shown beside each other
	shows     func(f *field)
}

// field is one field of the table under test, with a Service for it.
type field struct {
	*scene
	name      contract.Field
	proof     *fieldProof // nil: nobody wrote one
	policy    *v1alpha1.UpstreamPolicy
	service   *corev1.Service
	otherwise *corev1.Service // the second one, if the proof needs it
	host      string          // of the Service
	address   string          // with the port
}

// Every setting does something that traffic shows, or is told to be unsupported;
// then the Service is carried all the same.
func TestPolicy_EveryField(t *testing.T) {
	s := newScene(t)
	for _, node := range env.Nodes() { // each with a pod, so that the pod says which node was chosen
		_, err := env.AddPod(t.Context(), cluster.PodSpec{Namespace: s.namespace, Name: "web-" + node, Node: node, Labels: map[string]string{"app": "web"}})
		must(t, err)
	}
	if !slices.Contains(env.Clients(), "client2") {
		must(t, env.AddClient(t.Context(), "client2"))
	}
	// Each host counts for itself.
	must(t, env.RouteVia(t.Context(), "lb1"))
	t.Cleanup(func() { must(t, env.RouteVia(context.Background(), "lb1", "lb2")) })
	proofs := fieldProofs()
	for name := range proofs {
		if !contract.Known(name) {
			t.Errorf("%s is proved, and is none of engine.Fields", name)
		}
	}
	if table.Named(engine.name).Unsupported("sourceAddresses", lb.TCP) == "" {
		s.admitSources()
	}
	fields := s.makeFields(proofs)
	s.endpointsOf(fields)
	s.settled()
	s.inSync(balancer) // from here on nothing changes: where a daemon reloads, it counts anew
	for _, f := range fields {
		t.Run(string(f.name), func(t *testing.T) {
			if f.proof == nil {
				t.Fatal("nothing shows what it does: write a proof, in fieldProofs")
			}
			if !f.proof.alone {
				t.Parallel()
			}
			f.scene = &scene{t: t, namespace: s.namespace}
			if table.Named(engine.name).Unsupported(f.name, lb.TCP) != "" {
				f.policySays(f.policy, v1alpha1.ConditionUnsupported, string(f.name)+": ")
				f.carried()
				return
			}
			f.supported()
			if f.proof.shows == nil {
				t.Fatal("the table says that it does something, and nothing shows what")
			}
			f.proof.shows(f)
		})
	}
}

// Defaults of a Balancer that its engine cannot do are told on the Balancer; its
// Services are carried all the same.
func TestPolicy_DefaultsThatTheEngineCannotDo(t *testing.T) {
	s := newScene(t)
	s.pod("web", "web-1", "node1")
	svc := s.service("web")
	address := s.published(svc)[0]
	proofs := fieldProofs()
	i := slices.IndexFunc(contract.Fields, func(f contract.Field) bool { return table.Named(engine.name).Fields[f].Missing != "" })
	cannot := contract.Fields[i] // each engine has some
	changeBalancer(t, balancer, func(b *v1alpha1.Balancer) {
		must(t, yaml.UnmarshalStrict([]byte(proofs[cannot].settings), &b.Spec.Defaults))
	})
	t.Cleanup(func() {
		changeBalancer(t, balancer, func(b *v1alpha1.Balancer) { b.Spec.Defaults = v1alpha1.UpstreamSettings{} })
	})
	s.event(getBalancer(t, balancer), v1alpha1.ReasonUnsupported, string(cannot)+": ")
	c := meta.FindStatusCondition(getBalancer(t, balancer).Status.Conditions, v1alpha1.ConditionAccepted)
	if c == nil || c.Status != metav1.ConditionTrue || !strings.Contains(c.Message, "spec.defaults: "+string(cannot)+": ") {
		t.Errorf("the Balancer says %+v", c)
	}
	s.answers("web", address, 80)
}

// makeFields makes a policy and a Service for each field of the table, or two,
// and waits until they are live.
func (s *scene) makeFields(proofs map[contract.Field]fieldProof) []*field {
	var all []*field
	for _, name := range contract.Fields {
		if name == "tls.secretRef" {
			continue // no field of the settings: the tests of TLS show what it does
		}
		f := &field{scene: s, name: name}
		all = append(all, f)
		proof, ok := proofs[name]
		if !ok {
			continue
		}
		f.proof, f.policy = &proof, s.fieldPolicy(f.slug(), proof.settings)
		if proof.otherwise != "" {
			s.fieldPolicy(f.slug()+"-otherwise", proof.otherwise)
		}
	}
	s.policiesTold() // what the manager knows of is in force from a Service's first moment
	for _, f := range all {
		if f.proof == nil {
			continue
		}
		f.service = s.fieldService(f.slug(), f.proof)
		if f.proof.otherwise != "" {
			f.otherwise = s.fieldService(f.slug()+"-otherwise", f.proof)
		}
	}
	for _, f := range all {
		if f.proof == nil {
			continue
		}
		f.host = s.published(f.service)[0]
		f.address = f.host + ":80"
		if f.otherwise != nil {
			s.published(f.otherwise)
			f.otherwise = s.get(f.otherwise)
		}
	}
	return all
}

// endpointsOf waits until every Service has an endpoint on each node: a Local one is
// published without, too.
func (s *scene) endpointsOf(fields []*field) {
	s.t.Helper()
	wait.For(s.t, func(ctx context.Context) error {
		var list discoveryv1.EndpointSliceList
		if err := env.Kube.List(ctx, &list, client.InNamespace(s.namespace)); err != nil {
			return err
		}
		endpoints := map[string]int{}
		for _, slice := range list.Items {
			endpoints[slice.Labels[discoveryv1.LabelServiceName]] += len(slice.Endpoints)
		}
		for _, f := range fields {
			for _, svc := range []*corev1.Service{f.service, f.otherwise} {
				if svc != nil && endpoints[svc.Name] < len(env.Nodes()) {
					return fmt.Errorf("%s has %d endpoints", svc.Name, endpoints[svc.Name])
				}
			}
		}
		return nil
	})
}

// slug is the field as a name.
func (f *field) slug() string {
	return strings.NewReplacer("=", "-", ".", "-").Replace(strings.ToLower(string(f.name)))
}

func (s *scene) fieldPolicy(name, settings string) *v1alpha1.UpstreamPolicy {
	s.t.Helper()
	policy := builder.UpstreamPolicy(s.namespace, name).Manifest()
	must(s.t, yaml.UnmarshalStrict([]byte(settings), &policy.Spec))
	if engine.name == v1alpha1.EngineLVS && policy.Spec.HealthCheck == nil {
		// The check is not what is shown, and LVS asks for each Service by itself.
		policy.Spec.HealthCheck = &v1alpha1.HealthCheck{Type: v1alpha1.HealthCheckNone}
	}
	policy.Spec.TargetRefs = []v1alpha1.PolicyTargetReference{{Kind: "Service", Name: name}}
	must(s.t, env.Kube.Create(s.t.Context(), policy))
	return policy
}

// policiesTold waits until the manager has said something about every policy.
func (s *scene) policiesTold() {
	s.t.Helper()
	wait.For(s.t, func(ctx context.Context) error {
		var list v1alpha1.UpstreamPolicyList
		if err := env.Kube.List(ctx, &list, client.InNamespace(s.namespace)); err != nil {
			return err
		}
		for _, p := range list.Items {
			if len(p.Status.Targets) == 0 {
				return fmt.Errorf("the policy %s has no status", p.Name)
			}
		}
		return nil
	})
}

func (s *scene) fieldService(name string, proof *fieldProof) *corev1.Service {
	target := 9000
	if proof.http {
		target = 8080
	}
	return s.service(name, withLocal, withPort("web", corev1.ProtocolTCP, 80, target), func(svc *corev1.Service) {
		svc.Spec.Selector = map[string]string{"app": "web"}
		if proof.asked != 0 {
			withPort("asked", corev1.ProtocolTCP, 81, 8080)(svc)
			svc.Spec.Ports[1].NodePort = proof.asked
		}
	})
}

// supported waits until the policy is in force, and fails if the field is told to do nothing.
func (f *field) supported() {
	f.t.Helper()
	f.policySays(f.policy, v1alpha1.ConditionAccepted, "")
	for _, target := range f.policy.Status.Targets {
		c := meta.FindStatusCondition(target.Conditions, v1alpha1.ConditionUnsupported)
		if c != nil && strings.Contains(c.Message, string(f.name)+": ") {
			f.t.Errorf("told to be unsupported: %s", c.Message)
		}
	}
}

// carried waits until a pod answers.
func (f *field) carried() {
	f.t.Helper()
	wait.For(f.t, func(ctx context.Context) (err error) {
		if f.proof.http {
			_, err = f.web(ctx, f.host, 80)
		} else {
			_, err = f.reach(ctx, f.address)
		}
		return err
	})
}

// held is an open connection on which a pod has answered.
type held struct {
	net.Conn
	cluster.Answer
}

// open connects from a client, says something and reads what the pod answers.
func (f *field) open(ctx context.Context, from, address, say string) (*held, error) {
	short, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	conn, err := env.DialFrom(short, from, "tcp", address)
	if err != nil {
		return nil, err
	}
	f.t.Cleanup(func() { conn.Close() })
	h := &held{Conn: conn}
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return nil, err
	}
	_, err = io.WriteString(conn, say+"hello\n")
	if err == nil {
		err = json.NewDecoder(bufio.NewReader(conn)).Decode(&h.Answer)
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("%s from %s: %w", address, from, err)
	}
	if h.Namespace != f.namespace || h.Received != "hello" {
		f.t.Errorf("%s answered %+v: misrouted", address, h.Answer)
	}
	return h, conn.SetDeadline(time.Time{})
}

// holds opens a connection that must be answered, and lets it be.
func (f *field) holds(from string) *held {
	f.t.Helper()
	h, err := f.open(f.t.Context(), from, f.address, "")
	must(f.t, err)
	return h
}

// reach says which node answers a new connection.
func (f *field) reach(ctx context.Context, address string) (node string, err error) {
	h, err := f.open(ctx, "client", address, "")
	if err != nil {
		return "", err
	}
	return h.Node, h.Close()
}

// spread lists the nodes that answer connections, one after the other; "" where
// none does.
func (f *field) spread(address string, count int) []string {
	var nodes []string
	for range count {
		node, _ := f.reach(f.t.Context(), address) // "" tells enough
		nodes = append(nodes, node)
	}
	return nodes
}

// on waits until exactly these nodes answer, and every connection is answered.
func (f *field) on(nodes ...string) {
	f.t.Helper()
	wait.For(f.t, func(ctx context.Context) error {
		got := f.spread(f.address, 9)
		slices.Sort(got)
		if distinct := slices.Compact(slices.Clone(got)); !slices.Equal(distinct, nodes) {
			return fmt.Errorf("answered by %q, want %q", got, nodes)
		}
		return nil
	})
}

// barrier is in the way of what comes to a port of a node.
type barrier struct {
	f           *field
	node, table string
}

// bar lets a node treat what comes to a port of its as verdict says, until lifted.
func (f *field) bar(node string, port int32, verdict string) barrier {
	f.t.Helper()
	b := barrier{f, node, fmt.Sprintf("bar-%s-%d", f.slug(), port)}
	lb1, err := env.Host("lb1")
	must(f.t, err)
	b.nft(f.t.Context(), "add table inet "+b.table)
	b.nft(f.t.Context(), fmt.Sprintf("add chain inet %s in { type filter hook prerouting priority -200; }", b.table))
	b.nft(f.t.Context(), fmt.Sprintf("add rule inet %s in ip saddr %s tcp dport %d tcp flags & (syn|ack) == syn counter", b.table, lb1.Addr(), port))
	b.nft(f.t.Context(), fmt.Sprintf("add rule inet %s in tcp dport %d %s", b.table, port, verdict))
	f.t.Cleanup(b.lift)
	return b
}

func (b barrier) nft(ctx context.Context, line string) string {
	b.f.t.Helper()
	out, err := env.Exec(ctx, b.node, "nft", line)
	if err != nil {
		b.f.t.Errorf("nft %s: %v", line, err)
	}
	return out
}

func (b barrier) lift() {
	b.nft(context.Background(), "add table inet "+b.table+"; delete table inet "+b.table)
}

var countedText = regexp.MustCompile(`counter packets (\d+)`)

// tried is how many connections the first host has tried to make.
func (b barrier) tried() int {
	m := countedText.FindStringSubmatch(b.nft(b.f.t.Context(), "list table inet "+b.table))
	if m == nil {
		return 0
	}
	n, _ := strconv.Atoi(m[1]) // digits
	return n
}
