package render_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/engine/engines"
	"github.com/external-lb/external-lb/internal/engine/haproxy"
	"github.com/external-lb/external-lb/internal/engine/nginx"
	"github.com/external-lb/external-lb/internal/fileset"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/render"
)

const (
	uid      = "6f1c0a52-1111-4222-8333-944455566677"
	otherUID = "0d9b7c11-aaaa-4bbb-8ccc-dddeeefff000"
)

func serviceID(t testing.TB, namespace, name, uid string) lb.ID {
	t.Helper()
	id, err := lb.NewID(namespace, name, uid)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// service builds a Service in the namespace default.
func service(t testing.TB, name string, frontends ...engine.Frontend) *engine.Service {
	t.Helper()
	return &engine.Service{ID: serviceID(t, "default", name, uid), Frontends: frontends}
}

// configuration is Services whose nodes were found already.
type configuration struct{ Services []*engine.Service }

func config(services ...*engine.Service) *configuration { return &configuration{services} }

// frontend builds a Frontend with the built-in settings, open to everybody.
func frontend(p lb.Protocol, address string, backends ...string) engine.Frontend {
	at := netip.MustParseAddrPort(address)
	f := engine.Frontend{
		Listener: lb.Listener{Address: at.Addr(), Port: at.Port(), Protocol: p},
		Allow:    lb.Clients{Everybody: true},
		Settings: lb.Settings{
			Algorithm: lb.RoundRobin, Mode: lb.ModeTCP, SendProxy: lb.ProxyNone,
			ConnectTimeout: time.Second, IdleTimeout: 10 * time.Minute, Retries: 2,
			HealthCheck: lb.HealthCheck{Type: lb.CheckAuto, Interval: 2 * time.Second, Timeout: time.Second, Rise: 1, Fall: 1},
		},
	}
	for i, b := range backends {
		f.Backends = append(f.Backends, engine.Backend{Node: fmt.Sprintf("node-%d", i+1), Address: netip.MustParseAddrPort(b)})
	}
	return f
}

func tcp(address string, backends ...string) engine.Frontend {
	return frontend(lb.TCP, address, backends...)
}
func udp(address string, backends ...string) engine.Frontend {
	return frontend(lb.UDP, address, backends...)
}

// with changes the settings of a Frontend.
func with(f engine.Frontend, change func(*lb.Settings)) engine.Frontend {
	change(&f.Settings)
	return f
}

// from restricts a Frontend to clients. None: closed.
func from(f engine.Frontend, prefixes ...string) engine.Frontend {
	f.Allow = lb.Clients{}
	for _, p := range prefixes {
		f.Allow.Sources = append(f.Allow.Sources, netip.MustParsePrefix(p))
	}
	return f
}

// ofPods makes pods of the nodes of a Frontend.
func ofPods(f engine.Frontend) engine.Frontend {
	f.Pods = true
	for i, b := range f.Backends {
		f.Backends[i].Node = engine.PodName(b.Address.Addr())
	}
	return f
}

func sticky(f engine.Frontend) engine.Frontend {
	f.Affinity = 3 * time.Hour
	return f
}

// onEngine is a test of one engine.
type onEngine struct {
	*testing.T
	engine *engine.Engine
}

// onEngines runs a test for each engine that runs on any kernel. What LVS does
// with traffic is proved where its kernel is, by the end-to-end tests.
func onEngines(t *testing.T, test func(t onEngine)) {
	t.Helper()
	on(t, []*engine.Engine{nginx.Engine, haproxy.Engine}, test)
}

// onAllEngines runs a test that is about files alone.
func onAllEngines(t *testing.T, test func(t onEngine)) {
	t.Helper()
	on(t, engines.Table.Engines, test)
}

func on(t *testing.T, all []*engine.Engine, test func(t onEngine)) {
	t.Helper()
	for _, e := range all {
		t.Run(e.Name, func(t *testing.T) { test(onEngine{t, e}) })
	}
}

// Run runs a part of a test.
func (t onEngine) Run(name string, test func(t onEngine)) {
	t.T.Run(name, func(inner *testing.T) { test(onEngine{inner, t.engine}) })
}

// engineOf a test: nginx where it does not say.
func engineOf(t testing.TB) *engine.Engine {
	if e, ok := t.(onEngine); ok {
		return e.engine
	}
	return nginx.Engine
}

func newRenderer(t testing.TB) *render.Renderer {
	t.Helper()
	r, err := render.New(engineOf(t))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func mustRender(t testing.TB, cfg *configuration) *fileset.Set {
	t.Helper()
	set, problems := renderWith(t, newRenderer(t), cfg)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return set
}

// renderWith fails the test where a Service is refused.
func renderWith(t testing.TB, r *render.Renderer, cfg *configuration) (*fileset.Set, []error) {
	t.Helper()
	set, refused, problems := tryRender(t, r, cfg)
	if len(refused) > 0 {
		t.Fatal(refused)
	}
	return set, problems
}

func tryRender(t testing.TB, r *render.Renderer, cfg *configuration) (*fileset.Set, []lb.Refusal, []error) {
	t.Helper()
	set, refused, problems, err := r.Resolved(cfg.Services, certificatesMade())
	if err != nil {
		t.Fatal(err)
	}
	return set, refused, problems
}
