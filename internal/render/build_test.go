package render_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

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
func service(t testing.TB, name string, frontends ...lb.Frontend) *lb.Service {
	t.Helper()
	return &lb.Service{ID: serviceID(t, "default", name, uid), Frontends: frontends}
}

func config(services ...*lb.Service) *lb.Config { return &lb.Config{Services: services} }

// frontend builds a Frontend with the built-in settings, open to everybody.
func frontend(p lb.Protocol, address string, backends ...string) lb.Frontend {
	at := netip.MustParseAddrPort(address)
	f := lb.Frontend{
		Listener: lb.Listener{Address: at.Addr(), Port: at.Port(), Protocol: p},
		Allow:    lb.Allow{Everybody: true},
		Settings: lb.Settings{
			Algorithm: lb.RoundRobin, Mode: lb.ModeTCP, SendProxy: lb.ProxyNone,
			ConnectTimeout: time.Second, IdleTimeout: 10 * time.Minute, Retries: 2,
			HealthCheck: lb.HealthCheck{Type: lb.CheckAuto, Interval: 2 * time.Second, Timeout: time.Second, Rise: 1, Fall: 1},
		},
	}
	for i, b := range backends {
		f.Backends = append(f.Backends, lb.Backend{Node: fmt.Sprintf("node-%d", i+1), Address: netip.MustParseAddrPort(b)})
	}
	return f
}

func tcp(address string, backends ...string) lb.Frontend {
	return frontend(lb.TCP, address, backends...)
}
func udp(address string, backends ...string) lb.Frontend {
	return frontend(lb.UDP, address, backends...)
}

// with changes the settings of a Frontend.
func with(f lb.Frontend, change func(*lb.Settings)) lb.Frontend {
	change(&f.Settings)
	return f
}

// from restricts a Frontend to clients. None: closed.
func from(f lb.Frontend, prefixes ...string) lb.Frontend {
	f.Allow = lb.Allow{}
	for _, p := range prefixes {
		f.Allow.Sources = append(f.Allow.Sources, netip.MustParsePrefix(p))
	}
	return f
}

func sticky(f lb.Frontend) lb.Frontend {
	f.Affinity = 3 * time.Hour
	return f
}

// onEngine is a test of one engine.
type onEngine struct {
	*testing.T
	engine lb.Engine
}

// onEngines runs a test for each engine that runs on any kernel. What LVS does
// with traffic is proved where its kernel is, by the end-to-end tests.
func onEngines(t *testing.T, test func(t onEngine)) {
	t.Helper()
	on(t, []lb.Engine{lb.Nginx, lb.HAProxy}, test)
}

// onAllEngines runs a test that is about files alone.
func onAllEngines(t *testing.T, test func(t onEngine)) {
	t.Helper()
	on(t, lb.Engines, test)
}

func on(t *testing.T, engines []lb.Engine, test func(t onEngine)) {
	t.Helper()
	for _, e := range engines {
		t.Run(string(e), func(t *testing.T) { test(onEngine{t, e}) })
	}
}

// Run runs a part of a test.
func (t onEngine) Run(name string, test func(t onEngine)) {
	t.T.Run(name, func(inner *testing.T) { test(onEngine{inner, t.engine}) })
}

// engineOf a test: nginx where it does not say.
func engineOf(t testing.TB) lb.Engine {
	if e, ok := t.(onEngine); ok {
		return e.engine
	}
	return lb.Nginx
}

func newRenderer(t testing.TB) *render.Renderer {
	t.Helper()
	r, err := render.New(engineOf(t))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func mustRender(t testing.TB, cfg *lb.Config) *fileset.Set {
	t.Helper()
	set, err := newRenderer(t).Render(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return set
}
