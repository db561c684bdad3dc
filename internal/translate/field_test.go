package translate

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/engine/engines"
	"github.com/external-lb/external-lb/internal/lb"
)

// examples are three values of each field, none of them built in, as JSON.
var examples = map[string][3]string{
	"algorithm":               {`"SourceHash"`, `"LeastConnections"`, `"Random"`},
	"mode":                    {`"HTTP"`, `"TCP"`, `"HTTP"`},
	"http.redirectToHTTPS":    {`true`, `false`, `true`},
	"http.maxBodyBytes":       {`7`, `0`, `9`},
	"http.maxHeaderBytes":     {`2048`, `0`, `4096`},
	"proxyProtocol.send":      {`"V1"`, `"V2"`, `"None"`},
	"proxyProtocol.accept":    {`true`, `false`, `true`},
	"timeouts.connect":        {`"3s"`, `"4s"`, `"5s"`},
	"timeouts.idle":           {`"3m"`, `"4m"`, `"5m"`},
	"timeouts.client":         {`"3m"`, `"4m"`, `"5m"`},
	"timeouts.server":         {`"3m"`, `"4m"`, `"5m"`},
	"timeouts.queue":          {`"3s"`, `"4s"`, `"5s"`},
	"timeouts.keepAlive":      {`"3s"`, `"4s"`, `"5s"`},
	"maxQueue":                {`7`, `0`, `9`},
	"abortOnClose":            {`true`, `false`, `true`},
	"slowStart":               {`"3s"`, `"4s"`, `"5s"`},
	"drain":                   {`"3s"`, `"4m"`, `"1h"`},
	"healthCheck.type":        {`"TCP"`, `"HTTP"`, `"None"`},
	"healthCheck.http":        {`{"path":"/a"}`, `{"path":"/b","port":30443}`, `{"path":"/c"}`},
	"healthCheck.http.host":   {`"a.example"`, `"b.example"`, `"c"`},
	"healthCheck.http.status": {`"204"`, `"200-299"`, `"100-599"`},
	"healthCheck.tcp":         {`{"send":"a"}`, `{"send":"b\r\n","expect":"\u00e4"}`, `{"expect":"d"}`},
	"healthCheck.interval":    {`"3s"`, `"4s"`, `"5s"`},
	"healthCheck.timeout":     {`"3s"`, `"4s"`, `"5s"`},
	"healthCheck.rise":        {`7`, `8`, `9`},
	"healthCheck.fall":        {`7`, `8`, `9`},
	"maxConnections":          {`7`, `0`, `9`},
	"maxConnectionsPerNode":   {`7`, `0`, `9`},
	"maxConnectionsPerClient": {`7`, `0`, `9`},
	"maxRatePerClient":        {`7`, `0`, `9`},
	"accessLog":               {`false`, `true`, `false`},
	"retries":                 {`7`, `0`, `9`},
	"sourceAddresses":         {`["10.0.0.5"]`, `["fd00::/64","10.0.0.0/24"]`, `["fd00::5"]`},
}

// setting is a field alone, from JSON.
func setting(t testing.TB, name, value string) v1alpha1.UpstreamSettings {
	t.Helper()
	parts := strings.Split(name, ".")
	for _, part := range slices.Backward(parts) {
		value = fmt.Sprintf(`{%q:%s}`, part, value)
	}
	var s v1alpha1.UpstreamSettings
	if err := json.Unmarshal([]byte(value), &s); err != nil {
		t.Fatalf("%s: %v", value, err)
	}
	return s
}

// inItsMode is a setting with the mode without which it does nothing.
func inItsMode(name string, s v1alpha1.UpstreamSettings) v1alpha1.UpstreamSettings {
	for _, e := range engines.Table.Engines {
		if e.NotInMode(engine.Field(name), lb.ModeTCP) != "" {
			s.Mode = v1alpha1.ModeHTTP
		}
	}
	return s
}

// Of each field, the strongest level that sets it decides, also where it sets it to zero.
func TestPrecedenceOfEveryField(t *testing.T) {
	levels := []string{"policy for the port", "policy for the Service", "defaults of the Balancer"}
	for _, f := range fields {
		values, ok := examples[f.name]
		if !ok {
			t.Errorf("%s has no examples", f.name)
			continue
		}
		for set := range 1 << len(levels) {
			in := MakeInput(web()).Spec(func(s *v1alpha1.BalancerSpec) { s.Engine = v1alpha1.EngineHAProxy })
			strongest := -1
			for i := range slices.Backward(levels) {
				if set&(1<<i) == 0 {
					continue
				}
				strongest = i
				s := inItsMode(f.name, setting(t, f.name, values[i]))
				// The stronger, the younger: age does not matter between levels.
				change := func(into *v1alpha1.UpstreamSettings) { *into = s }
				switch p := policy(fmt.Sprintf("p%d", i)).Age(i); i {
				case 0:
					in.Policies(p.For("web", "p80").Set(change))
				case 1:
					in.Policies(p.For("web").Set(change))
				default:
					in.Spec(func(b *v1alpha1.BalancerSpec) { b.Defaults = s })
				}
			}
			want := builtIn(engines.Named("haproxy"), lb.TCP)
			if strongest >= 0 {
				s := inItsMode(f.name, setting(t, f.name, values[strongest]))
				apply(t, &want, &s)
			}
			if diff := cmp.Diff(want, settings(t, in)[80], compare); diff != "" {
				t.Errorf("%s, set by the levels %03b of %q (-want +got):\n%s", f.name, set, levels, diff)
			}
		}
	}
}

// apply writes what HAProxy can do of some settings over what there is.
func apply(t *testing.T, into *lb.Settings, s *v1alpha1.UpstreamSettings) {
	t.Helper()
	for _, f := range fields { // what an HTTP check asks for also says that it is one
		value := f.get(s)
		if value == "" || engines.Named("haproxy").Unsupported(f.capability(value), lb.TCP) != "" {
			continue
		}
		if err := f.set(into, value); err != nil {
			t.Fatalf("%s: %v", f.name, err)
		}
	}
}

// To ask for nothing is no more than every engine can do, on every protocol.
func TestNothingIsSupported(t *testing.T) {
	s := v1alpha1.UpstreamSettings{
		Mode: v1alpha1.ModeTCP, Retries: new(int32),
		MaxConnections: new(int32), MaxConnectionsPerNode: new(int32), MaxConnectionsPerClient: new(int32), MaxRatePerClient: new(int32), MaxQueue: new(int32), AbortOnClose: new(false),
		HTTP:          &v1alpha1.HTTPSettings{RedirectToHTTPS: new(false), MaxBodyBytes: new(int64), MaxHeaderBytes: new(int32)},
		ProxyProtocol: &v1alpha1.ProxyProtocol{Send: v1alpha1.ProxyProtocolNone, Accept: new(false)},
		HealthCheck:   &v1alpha1.HealthCheck{Type: v1alpha1.HealthCheckNone, TCP: &v1alpha1.TCPHealthCheck{}},
	}
	for _, e := range engines.Table.Engines {
		if got := unsupported(engine.Carriers{Main: e}, &s, []use{{lb.TCP, lb.ModeTCP}, {lb.TCP, lb.ModeHTTP}, {lb.UDP, lb.ModeTCP}, {lb.SCTP, lb.ModeTCP}}); len(got) > 0 {
			t.Errorf("%s: %q", e, got)
		}
	}
}

// leaves lists the settings of the kind by their paths. The path and the port that an
// HTTP check asks are one, and all of a TCP check: they are decided together.
func leaves(kind reflect.Type, path string) (all []string) {
	for kind.Kind() == reflect.Pointer {
		kind = kind.Elem()
	}
	if kind.Kind() != reflect.Struct || kind == reflect.TypeFor[v1alpha1.TCPHealthCheck]() {
		return []string{path}
	}
	isHTTP := kind == reflect.TypeFor[v1alpha1.HTTPHealthCheck]()
	if isHTTP {
		all = append(all, path)
	}
	for i := range kind.NumField() {
		name, _, _ := strings.Cut(kind.Field(i).Tag.Get("json"), ",")
		if isHTTP && (name == "path" || name == "port") {
			continue
		}
		all = append(all, leaves(kind.Field(i).Type, strings.TrimPrefix(path+"."+name, "."))...)
	}
	return all
}

// Nothing that a user can set is forgotten: every field of the kind is read, and by
// no other field's reader. TestFieldsAndCapabilitiesAgree leads on to the table.
func TestEveryFieldOfTheKindIsRead(t *testing.T) {
	var names []string
	for _, f := range fields {
		names = append(names, f.name)
	}
	paths := leaves(reflect.TypeFor[v1alpha1.UpstreamSettings](), "")
	if diff := cmp.Diff(slices.Sorted(slices.Values(paths)), slices.Sorted(slices.Values(names))); diff != "" {
		t.Fatalf("(-kind +fields):\n%s", diff)
	}
	for _, path := range paths {
		for _, value := range examples[path] {
			s := setting(t, path, value)
			for _, f := range fields {
				implied := strings.HasPrefix(path, "healthCheck.http") && (f.name == "healthCheck.type" || f.name == "healthCheck.http") ||
					path == "healthCheck.tcp" && f.name == "healthCheck.type"
				if got := f.get(&s); (got != "") != (f.name == path || implied) {
					t.Errorf("with %s set to %s, %s reads %q", path, value, f.name, got)
				}
			}
		}
	}
}

// example is a setting that the table has a line for.
func example(t *testing.T, field engine.Field) v1alpha1.UpstreamSettings {
	t.Helper()
	name, value, byValue := strings.Cut(string(field), "=")
	if byValue {
		return setting(t, name, fmt.Sprintf("%q", value))
	}
	values, ok := examples[name]
	if !ok {
		t.Fatalf("%s has no examples", name)
	}
	return inItsMode(name, setting(t, name, values[0]))
}

// What the table says of an engine, a field and a protocol is what the status of a
// policy says, and of the defaults that of the Balancer.
func TestStatusesFollowTheTable(t *testing.T) {
	all := []engine.Carriers{engines.Carrying("nginx", "LVS"), engines.Carrying("haproxy", "LVS")}
	for _, e := range engines.Table.Engines {
		all = append(all, engine.Carriers{Main: e})
	}
	for _, e := range all {
		for _, c := range engine.Fields {
			if c == tlsField {
				continue // no field of the settings: TestCertificateStatus holds its status
			}
			s := example(t, c)
			for _, protocol := range []lb.Protocol{lb.TCP, lb.UDP, lb.SCTP} {
				web := service("web").PortOf(corev1.Protocol(protocol), 80, 30080)
				p := policy("p").For("web").Set(func(into *v1alpha1.UpstreamSettings) { *into = s })
				carrier := func(*corev1.Service) (Carrier, bool) {
					return Carrier{Balancer: "edge", Engines: e}, true
				}
				status := PolicyStatus([]*v1alpha1.UpstreamPolicy{p.Obj()}, []*corev1.Service{web.Obj()}, carrier, nil, time.Time{})["p"][0]
				condition := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionUnsupported)
				want := e.For(protocol).Unsupported(c, protocol)
				said := string(c) + ": " + want // without a reason: the beginning of one
				if told := strings.Contains(condition.Message, said); told != (want != "") {
					t.Errorf("%s over %s on %s: %+v, want %q", c, protocol, e, condition, want)
				}
				in := MakeInput(on(web, "192.0.2.1")).Spec(func(b *v1alpha1.BalancerSpec) {
					b.Engine, b.Defaults = v1alpha1.Engine(e.Main.Name), s
					if e.Datagrams != nil {
						b.Datagrams = v1alpha1.DatagramsLVS
					}
				})
				defaults := New().Translate(in.Input).Unsupported
				if told := slices.ContainsFunc(defaults, func(reason string) bool {
					return strings.HasPrefix(reason, said) && strings.HasSuffix(reason, e.Ports(protocol))
				}); told != (want != "") && e.Carries(protocol) {
					t.Errorf("%s over %s in the defaults on %s: %q, want %q", c, protocol, e, defaults, want)
				}
			}
		}
	}
}
