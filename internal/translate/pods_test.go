package translate

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/test/builder"
)

// podSlice is one of IPv4, with ports such as http=8080.
func podSlice(ports ...string) *builder.EndpointSliceBuilder {
	s := slice(strings.Join(ports, "-"), discoveryv1.AddressTypeIPv4)
	for _, p := range ports {
		name, number, _ := strings.Cut(p, "=")
		var port int32
		_, _ = fmt.Sscan(number, &port)
		s.Port(name, port)
	}
	return s
}

func unready(e *discoveryv1.Endpoint) { e.Conditions.Ready = new(false) }

func leaving(e *discoveryv1.Endpoint) {
	e.Conditions = discoveryv1.EndpointConditions{Ready: new(false), Serving: new(true), Terminating: new(true)}
}

// cluster has pods of the namespace default by name.
type cluster map[string]*Pod

// read for a Service that has all ports of the slices.
func (c cluster) read(slices ...*builder.EndpointSliceBuilder) *Endpoints {
	var ports []corev1.ServicePort
	for _, s := range slices {
		for _, p := range s.Obj().Ports {
			ports = append(ports, corev1.ServicePort{Name: *p.Name, Protocol: *p.Protocol})
		}
	}
	return c.readFor(ports, slices...)
}

func (c cluster) readFor(ports []corev1.ServicePort, slices ...*builder.EndpointSliceBuilder) *Endpoints {
	var all []*discoveryv1.EndpointSlice
	for _, s := range slices {
		all = append(all, s.Obj())
	}
	return ReadEndpoints(ports, all, func(name string) *Pod { return c[name] })
}

func has(addresses ...string) *Pod {
	p := &Pod{}
	for _, a := range addresses {
		p.Addresses = append(p.Addresses, netip.MustParseAddr(a))
	}
	return p
}

func TestReadEndpoints(t *testing.T) {
	pods := cluster{"a": has("10.244.0.1", "fd00::1"), "b": has("10.244.0.2"), "own": {Addresses: has("10.0.0.1").Addresses, HostNetwork: true},
		"done": {Addresses: has("10.244.0.9").Addresses, Finished: true}}
	of := func(change func(*corev1.ObjectReference)) func(*discoveryv1.Endpoint) {
		return func(e *discoveryv1.Endpoint) { change(e.TargetRef) }
	}
	for name, c := range map[string]struct {
		slices    []*builder.EndpointSliceBuilder
		want      string // for the port http
		strangers bool
	}{
		"none":                        {nil, "", false},
		"ready":                       {[]*builder.EndpointSliceBuilder{podSlice("http=8080").Pod("a", "10.244.0.1").Pod("b", "10.244.0.2")}, "10.244.0.1:8080 10.244.0.2:8080", false},
		"one is not ready":            {[]*builder.EndpointSliceBuilder{podSlice("http=8080").Pod("a", "10.244.0.1").Pod("b", "10.244.0.2", unready)}, "10.244.0.1:8080", false},
		"one leaves":                  {[]*builder.EndpointSliceBuilder{podSlice("http=8080").Pod("a", "10.244.0.1").Pod("b", "10.244.0.2", leaving)}, "10.244.0.1:8080", false},
		"all leave":                   {[]*builder.EndpointSliceBuilder{podSlice("http=8080").Pod("a", "10.244.0.1", leaving)}, "10.244.0.1:8080", false},
		"another number of the port":  {[]*builder.EndpointSliceBuilder{podSlice("http=8080").Pod("a", "10.244.0.1"), podSlice("http=9090").Pod("b", "10.244.0.2")}, "10.244.0.1:8080 10.244.0.2:9090", false},
		"another port":                {[]*builder.EndpointSliceBuilder{podSlice("other=8080").Pod("a", "10.244.0.1")}, "", false},
		"in two slices":               {[]*builder.EndpointSliceBuilder{podSlice("http=8080").Pod("a", "10.244.0.1"), podSlice("http=8080").Pod("a", "10.244.0.1")}, "10.244.0.1:8080", false},
		"leaves one slice":            {[]*builder.EndpointSliceBuilder{podSlice("http=8080").Pod("a", "10.244.0.1", leaving), podSlice("http=8080").Pod("a", "10.244.0.1")}, "10.244.0.1:8080", false},
		"no pod":                      {[]*builder.EndpointSliceBuilder{podSlice("http=8080").Pod("a", "10.244.0.1", func(e *discoveryv1.Endpoint) { e.TargetRef = nil })}, "", true},
		"another kind":                {[]*builder.EndpointSliceBuilder{podSlice("http=8080").Pod("a", "10.244.0.1", of(func(r *corev1.ObjectReference) { r.Kind = "Node" }))}, "", true},
		"another namespace":           {[]*builder.EndpointSliceBuilder{podSlice("http=8080").Pod("a", "10.244.0.1", of(func(r *corev1.ObjectReference) { r.Namespace = "other" }))}, "", true},
		"no namespace is the slice's": {[]*builder.EndpointSliceBuilder{podSlice("http=8080").Pod("a", "10.244.0.1", of(func(r *corev1.ObjectReference) { r.Namespace = "" }))}, "10.244.0.1:8080", false},
		"not there":                   {[]*builder.EndpointSliceBuilder{podSlice("http=8080").Pod("c", "10.244.0.1")}, "", true},
		"another pod's address":       {[]*builder.EndpointSliceBuilder{podSlice("http=8080").Pod("a", "10.244.0.2")}, "", true},
		"any address":                 {[]*builder.EndpointSliceBuilder{podSlice("http=8080").Pod("a", "192.0.2.66").Pod("b", "10.244.0.2")}, "10.244.0.2:8080", true},
		"on the host's network":       {[]*builder.EndpointSliceBuilder{podSlice("http=8080").Pod("own", "10.0.0.1")}, "", true},
		"finished":                    {[]*builder.EndpointSliceBuilder{podSlice("http=8080").Pod("done", "10.244.0.9")}, "", true},
		"no address":                  {[]*builder.EndpointSliceBuilder{podSlice("http=8080").Pod("a", "::1").Pod("a", "nonsense")}, "", true},
		"no port":                     {[]*builder.EndpointSliceBuilder{podSlice("http=0").Pod("a", "10.244.0.1")}, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			got := pods.read(c.slices...)
			answer, _ := got.of(&corev1.ServicePort{Name: "http", Protocol: tcp}, true, false)
			var texts []string
			for _, e := range answer {
				texts = append(texts, e.Address.String())
			}
			if text := strings.Join(texts, " "); text != c.want || got.strangers != c.strangers {
				t.Errorf("%q, strangers: %t", text, got.strangers)
			}
			if !got.Same(pods.read(c.slices...)) {
				t.Error("read again, it is not the same")
			}
		})
	}
}

// many is a slice with so many pods at so many ports, p1 and so on; and these of a Service.
func many(name string, pods, ports int, changes ...func(*discoveryv1.Endpoint)) (cluster, *builder.EndpointSliceBuilder, []corev1.ServicePort) {
	there, s, all := cluster{}, slice(name, discoveryv1.AddressTypeIPv4), []corev1.ServicePort(nil)
	for i := range ports {
		s.Port(fmt.Sprint("p", i+1), int32(i+1))
		all = append(all, corev1.ServicePort{Name: fmt.Sprint("p", i+1), Protocol: tcp, Port: int32(i + 1)})
	}
	for i := range pods {
		a := fmt.Sprintf("10.244.%d.%d", i/250, i%250+1)
		there[fmt.Sprint("pod", i)] = has(a)
		s.Pod(fmt.Sprint("pod", i), a, changes...)
	}
	return there, s, all
}

// What may write EndpointSlices of one Service may not take the manager's memory.
func TestReadEndpoints_IsBounded(t *testing.T) {
	pods, s, ports := many("a", 1000, 20_000)
	if got := pods.readFor(ports[:2], s); len(got.all) != 2000 || got.cut {
		t.Errorf("of two ports there are %d, cut: %t", len(got.all), got.cut)
	}
	if got := pods.readFor(ports[:512], s, s); len(got.all) != lb.MaxEndpoints || !got.cut {
		t.Errorf("of 512 ports there are %d, cut: %t", len(got.all), got.cut)
	}
	// Those that leave take no place of others.
	_, leaves, _ := many("a", 1000, 512, leaving)
	pods, s, ports = many("b", 64, 512)
	got := pods.readFor(ports, leaves, s)
	for i := range ports {
		if answer, _ := got.of(&ports[i], true, false); len(answer) != 64 {
			t.Fatalf("%d pods answer for port %s", len(answer), ports[i].Name)
		}
	}
}

func TestPods_ThatAreTooManyToBeReadAreTold(t *testing.T) {
	in := MakeInput(manyPorts("a", 1000, 100, "192.0.2.1")).Spec(sendsToPods)
	got := in.Only(t)
	got.wantProblems(t, v1alpha1.ReasonTooLarge)
	if most := lb.MaxEndpoints / 100; got.Endpoints() != 100*most {
		t.Errorf("%d pods", got.Endpoints())
	}
	in.Spec(func(b *v1alpha1.BalancerSpec) { b.Nodes.MaxPerService = 3 }).Only(t).wantProblems(t)
}

// manyPorts is a Service of a namespace at one address or several.
func manyPorts(namespace string, pods, ports int, addresses ...string) Service {
	there, s, all := many("a", pods, ports)
	svc := on(service("web").With(func(svc *corev1.Service) { svc.Spec.Ports = all }), addresses...)
	svc.Object.Namespace, svc.Object.UID, svc.Object.ResourceVersion = namespace, types.UID(namespace+"-web"), "1"
	svc.Pods = there.readFor(all, s)
	return svc
}

// What no host takes is refused before anything is made of it: it counts for nobody's share.
func TestPods_OfTooManyPortsCountForNothing(t *testing.T) {
	for name, svc := range map[string]Service{
		"ports":     manyPorts("a", 60, 2*lb.MaxFrontends, "192.0.2.1"),
		"addresses": manyPorts("a", 60, 300, "192.0.2.1", "192.0.2.2"),
	} {
		t.Run(name, func(t *testing.T) {
			small := New()
			small.mostEndpoints = 700
			out := small.Translate(MakeInput(svc, crowd("b", "one", 200)).Spec(sendsToPods).Input)
			if got := fmt.Sprint(carried(out)); got != "map[b/one:200]" {
				t.Error(got)
			}
			if p := out.Services["a-web"].Problems; len(p) != 1 || !p[0].Fatal || !strings.Contains(p[0].Message, "hosts take 512 of a Service") {
				t.Errorf("%+v", p)
			}
		})
	}
}

// sendsToPods is a Balancer that sends to pods.
func sendsToPods(b *v1alpha1.BalancerSpec) { b.Nodes.Backends = v1alpha1.BackendsPods }

// toPods prints where Frontends send.
func (s translated) toPods() (lines []string) {
	if s.Service == nil {
		return nil
	}
	for _, f := range s.Frontends {
		line := f.Listener.String() + " ->"
		for _, e := range f.Endpoints {
			if line += " " + e.Address.String(); e.Draining {
				line += " (draining)"
			}
		}
		lines = append(lines, line)
	}
	return lines
}

func (s translated) wantPods(t *testing.T, want ...string) {
	t.Helper()
	if got := strings.Join(s.toPods(), "\n"); got != strings.Join(want, "\n") {
		t.Errorf("sends\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
}

func TestPods_AnswerInThePlaceOfNodes(t *testing.T) {
	pods := cluster{"a": has("10.244.0.1"), "b": has("10.244.0.2"), "c": has("10.244.0.3")}
	svc := on(service("web").PortOf(tcp, 80, 0).Port(443).Local(30999), "192.0.2.1")
	svc.Pods = pods.read(podSlice("p80=8080", "p443=8443").Pod("a", "10.244.0.1").Pod("b", "10.244.0.2", leaving),
		podSlice("p80=9090").Pod("c", "10.244.0.3"))
	in := MakeInput(svc).Spec(sendsToPods)
	got := in.Only(t)
	got.wantPods(t, "192.0.2.1:80/TCP -> 10.244.0.1:8080 10.244.0.3:9090", "192.0.2.1:443/TCP -> 10.244.0.1:8443")
	got.wantProblems(t)
	if !got.Pods || got.HealthCheckNodePort != 30999 || got.Frontends[1].NodePort != 30443 || got.IPv4.Targets.All || len(got.IPv4.Targets.Nodes) > 0 {
		t.Errorf("%+v", got.Service)
	}
	if out := New().Translate(in.Input); len(out.Config.Nodes) != 2 {
		t.Error("hosts are not told of nodes: what they carried could not stay")
	}
	in.Spec(func(b *v1alpha1.BalancerSpec) { b.Engine = v1alpha1.EngineLVS }).Only(t).wantPods(t,
		"192.0.2.1:80/TCP -> 10.244.0.1:8080 10.244.0.2:8080 (draining) 10.244.0.3:9090", "192.0.2.1:443/TCP -> 10.244.0.1:8443 10.244.0.2:8443 (draining)")
}

func TestPods_NodesDoNotMatter(t *testing.T) {
	svc := on(service("web").Port(80), "192.0.2.1")
	svc.Pods = cluster{"a": has("10.244.0.1")}.read(podSlice("p80=8080").Pod("a", "10.244.0.1"))
	in := MakeInput(svc).Spec(sendsToPods).Nodes()
	got := in.Only(t)
	got.wantPods(t, "192.0.2.1:80/TCP -> 10.244.0.1:8080")
	got.wantProblems(t)
	if out := New().Translate(in.Input); out.NodesProblem != nil {
		t.Errorf("%+v", out.NodesProblem)
	}
}

func TestPods_WithoutAnyTheServiceIsTold(t *testing.T) {
	svc := on(service("web").Port(80), "192.0.2.1")
	in := MakeInput(svc).Spec(sendsToPods)
	got := in.Only(t)
	got.wantPods(t, "192.0.2.1:80/TCP ->")
	got.wantProblems(t, v1alpha1.ReasonNoEndpoints)
	in.Services[0].Pods = cluster{}.read(podSlice("p80=8080").Pod("a", "10.244.0.1"))
	if p := in.Only(t).Problems; len(p) != 1 || !strings.Contains(p[0].Message, "no pods of its namespace") {
		t.Errorf("%+v", p)
	}
}

func TestPods_ThatCannotBeReadTakeNothingAway(t *testing.T) {
	in := MakeInput(on(service("web").Port(80), "192.0.2.1")).Spec(sendsToPods)
	in.PodsUnread = "no right"
	if p := New().Translate(in.Input).NodesProblem; p == nil || !p.Fatal || p.Reason != v1alpha1.ReasonPodsUnreadable || !strings.Contains(p.Message, "no right") {
		t.Errorf("%+v", p)
	}
	in.Spec(func(b *v1alpha1.BalancerSpec) { b.Nodes.Backends = v1alpha1.BackendsNodes })
	if p := New().Translate(in.Input).NodesProblem; p != nil {
		t.Errorf("%+v", p)
	}
}

// crowd is a Service of a namespace with so many pods.
func crowd(namespace, name string, pods int) Service {
	svc := on(service(name).Port(80), "192.0.2.1")
	svc.Object.Namespace, svc.Object.UID, svc.Object.ResourceVersion = namespace, types.UID(namespace+"-"+name), "1"
	there, slice := cluster{}, podSlice("p80=8080")
	for i := range pods {
		a := fmt.Sprintf("10.244.%d.%d", i/250, i%250+1)
		there[fmt.Sprint("pod", i)] = has(a)
		slice.Pod(fmt.Sprint("pod", i), a)
	}
	svc.Pods = there.read(slice)
	return svc
}

func carried(out Output) map[string]int {
	n := map[string]int{}
	for _, s := range out.Config.Services {
		n[s.ID.String()] = s.Endpoints()
	}
	return n
}

func TestPods_TheNamespaceWithMostGivesWay(t *testing.T) {
	in := MakeInput(crowd("a", "one", 100), crowd("a", "two", 60), crowd("b", "one", 50)).Spec(sendsToPods)
	remembers := New()
	remembers.mostEndpoints = 210
	out := remembers.Translate(in.Input)
	if got := fmt.Sprint(carried(out)); got != "map[a/one:100 a/two:60 b/one:50]" {
		t.Fatal(got)
	}
	b := out.Config.Services[2]
	in.Services[1] = crowd("a", "two", 61)
	in.Services[1].Object.ResourceVersion = "2"
	out = remembers.Translate(in.Input)
	if got := fmt.Sprint(carried(out)); got != "map[a/one:64 a/two:61 b/one:50]" {
		t.Error(got)
	}
	if out.Config.Services[2] != b {
		t.Error("a Service that is not concerned is made anew")
	}
	p := out.Services["a-one"].Problems
	if len(p) != 1 || p[0].Reason != v1alpha1.ReasonTooLarge || p[0].Fatal || !strings.Contains(p[0].Message, "64 of its pods") || len(out.Services["a-two"].Problems) > 0 {
		t.Errorf("%+v", p)
	}
	before := out.Config.Services[0]
	if out = remembers.Translate(in.Input); out.Config.Services[0] != before {
		t.Error("it is made anew though nothing has changed")
	}
	in.Services = in.Services[1:]
	if got := fmt.Sprint(carried(remembers.Translate(in.Input))); got != "map[a/two:61 b/one:50]" {
		t.Error(got)
	}
}

// Of what is never sent, nothing is taken from anybody.
func TestPods_OnlyThoseThatAreSentCount(t *testing.T) {
	in := MakeInput(manyPorts("a", 300, 100, "192.0.2.1", "192.0.2.2"), crowd("b", "one", 2000)).Spec(sendsToPods)
	small := New()
	small.mostEndpoints = 40_000
	if got := fmt.Sprint(carried(small.Translate(in.Input))); got != "map[a/web:32600 b/one:2000]" {
		t.Error(got)
	}
}

func TestPods_AreBoundedForEachPort(t *testing.T) {
	in := MakeInput(crowd("a", "one", lb.MaxPods+1)).Spec(sendsToPods)
	got := in.Only(t)
	if got.Endpoints() != lb.MaxPods {
		t.Errorf("%d pods", got.Endpoints())
	}
	got.wantProblems(t, v1alpha1.ReasonTooLarge)
	in.Spec(func(b *v1alpha1.BalancerSpec) { b.Nodes.MaxPerService = 3 })
	if got = in.Only(t); got.Endpoints() != 3 {
		t.Errorf("%d pods", got.Endpoints())
	}
	got.wantProblems(t)
}

// A pod that comes changes its own Service, and no other.
func TestPods_OneThatComesChangesOneService(t *testing.T) {
	in := MakeInput(crowd("a", "one", 3), crowd("a", "two", 3)).Spec(sendsToPods).Spec(func(b *v1alpha1.BalancerSpec) { b.Engine = v1alpha1.EngineHAProxy })
	remembers := New()
	before := remembers.Translate(in.Input)
	in.Services[0].Pods = crowd("a", "one", 4).Pods
	after := remembers.Translate(in.Input)
	if after.Config.Services[1] != before.Config.Services[1] || after.Config.Services[0].Endpoints() != 4 {
		t.Errorf("%v", carried(after))
	}
	a, b := before.Config.Services[0].Frontends[0], after.Config.Services[0].Frontends[0]
	if a.Settings != b.Settings || a.Settings.HealthCheck.Interval != 2*time.Second {
		t.Errorf("%+v, and then %+v", a.Settings, b.Settings)
	}
}
