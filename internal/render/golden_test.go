package render_test

import (
	"flag"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/engine/engines"
	"github.com/external-lb/external-lb/internal/fileset"
	"github.com/external-lb/external-lb/internal/lb"
)

var update = flag.Bool("update", false, "write the files in testdata anew")

// goldenConfigs are one Config for each thing that a file can say.
func goldenConfigs(t testing.TB) map[string]*configuration {
	one := func(f ...engine.Frontend) *configuration { return config(service(t, "web", f...)) }
	at, nodes := "192.0.2.1:80", []string{"10.0.0.1:30080", "10.0.0.2:30080", "10.0.0.10:30080"}
	active := lb.HealthCheck{Path: "/ready", Interval: time.Second, Timeout: 500 * time.Millisecond, Rise: 2, Fall: 3}
	v6, nodes6 := "[2001:db8::1]:80", []string{"[2001:db8:1::1]:30080", "[2001:db8:1::2]:30080"}
	set := func(change func(*lb.Settings)) *configuration { return one(with(tcp(at, nodes...), change)) }
	return map[string]*configuration{
		"no-services": config(),
		"pods": one(ofPods(tcp(at, "10.244.0.1:8080", "10.244.1.7:9090")), ofPods(tcp("192.0.2.1:81")),
			ofPods(tcp(v6, "[fd00:10:244::7]:8080")), ofPods(sticky(tcp("192.0.2.1:82", "10.244.0.1:8080")))),
		"pods-check-http": one(ofPods(with(tcp(at, "10.244.0.1:8080"), asksHost))),
		"pods-udp":        one(ofPods(udp(at, "10.244.0.1:9000"))),
		"tcp":             one(tcp(at, nodes...)),
		"udp":             one(udp(at, nodes...)),
		"S19-local":       one(local(tcp(at, nodes...)), local(tcp(v6, nodes6...)), local(tcp("192.0.2.1:81", nodes...))),
		"S19-weights": one(weighed(tcp(at, nodes...)), weighed(algorithm(tcp("192.0.2.1:81", nodes...), lb.LeastConnections)),
			weighed(algorithm(tcp(v6, nodes6...), lb.Random))),
		"S19-weights-udp":   one(weighed(udp(at, nodes...))),
		"S21-draining":      one(draining(weighed(tcp(at, nodes...)))),
		"S21-all-drain":     one(draining(tcp(at, nodes[0]))),
		"proxy-protocol-v2": set(func(s *lb.Settings) { s.SendProxy = lb.ProxyV2 }),
		"check-tcp":         set(func(s *lb.Settings) { s.HealthCheck, s.HealthCheck.Type = active, lb.CheckTCP }),
		"check-http":        set(func(s *lb.Settings) { s.HealthCheck, s.HealthCheck.Type = active, lb.CheckHTTP }),
		"check-https": set(func(s *lb.Settings) {
			s.HealthCheck, s.HealthCheck.Type, s.HealthCheck.TLS = active, lb.CheckHTTP, true
		}),
		"check-http-on-a-port": set(func(s *lb.Settings) {
			s.HealthCheck, s.HealthCheck.Type, s.HealthCheck.Port = active, lb.CheckHTTP, 8080
		}),
		"check-http-of-a-host": one(with(tcp(at, nodes...), asksHost), with(tcp("192.0.2.1:81", nodes...), func(s *lb.Settings) {
			asksHost(s)
			s.HealthCheck.Port, s.HealthCheck.Status = 8080, lb.Status{From: 200, To: 299}
		})),
		"check-tcp-that-speaks": one(with(tcp(at, nodes...), speaks), with(tcp("192.0.2.1:81", nodes...), func(s *lb.Settings) {
			speaks(s)
			s.Mode, s.HealthCheck.Send = lb.ModeHTTP, ""
		}), with(tcp("192.0.2.1:82", nodes...), func(s *lb.Settings) {
			speaks(s)
			s.HealthCheck.Send, s.HealthCheck.Expect = strings.Repeat("00", 256), strings.Repeat("ff", 256)
		})),
		"backups": one(waits(tcp(at, nodes...)), waits(with(tcp(v6, nodes6...), func(s *lb.Settings) { s.Algorithm, s.MaxConnectionsPerNode = lb.LeastConnections, 7 })),
			waits(algorithm(tcp("192.0.2.1:81", nodes...), lb.SourceHash))),
		"S10-two-families":      one(tcp(at, nodes...), tcp(v6, nodes6...)),
		"S16-tcp-and-udp":       one(tcp(at, nodes...), udp(at, nodes...)),
		"S27-no-nodes":          one(tcp(at), tcp(v6), accepting(tcp("192.0.2.1:81"))),
		"S27-no-nodes-udp":      one(udp(at)),
		"S28-source-ranges":     one(from(tcp(at, nodes...), "198.51.100.0/24", "203.0.113.7/32"), from(tcp(v6, nodes6...), "2001:db8:9::/48")),
		"S28-closed":            one(from(tcp(at, nodes...)), from(accepting(tcp("192.0.2.1:81", nodes...)))),
		"S28-closed-udp":        one(from(udp(at, nodes...))),
		"S28-all-of-one-family": one(from(tcp(at, nodes...), "0.0.0.0/0"), from(tcp(v6, nodes6...), "::/0")),
		"S29-affinity":          one(sticky(tcp(at, nodes...))),
		"S29-affinity-udp":      one(sticky(udp(at, nodes...))),
		"least-connections":     one(algorithm(tcp(at, nodes...), lb.LeastConnections)),
		"random":                one(algorithm(tcp(at, nodes...), lb.Random)),
		"source-hash":           one(algorithm(tcp(at, nodes...), lb.SourceHash), algorithm(tcp(v6, nodes6...), lb.SourceHash)),
		"schedulers-of-lvs": one(algorithm(tcp(at, nodes...), lb.DestinationHash), algorithm(udp(at, nodes...), lb.ShortestExpectedDelay),
			algorithm(tcp(v6, nodes6...), lb.NeverQueue)),
		"sctp": one(sticky(frontend(lb.SCTP, at, nodes...))),
		"direct": one(directly(tcp(at, "10.0.0.1:80", "10.0.0.2:80")), directly(local(tcp("192.0.2.2:80", "10.0.0.1:80"))),
			directly(with(tcp(v6, "[2001:db8:1::1]:80"), func(s *lb.Settings) { s.HealthCheck, s.HealthCheck.Type = active, lb.CheckTCP }))),
		"source-hash-udp":         one(algorithm(udp(at, nodes...), lb.SourceHash)),
		"proxy-protocol-send":     set(func(s *lb.Settings) { s.SendProxy = lb.ProxyV1 }),
		"proxy-protocol-accept":   one(accepting(tcp(at, nodes...)), accepting(tcp(v6, nodes6...))),
		"proxy-protocol-and-list": one(from(accepting(tcp(at, nodes...)), "198.51.100.0/24")),
		"share":                   share(one(tcp(at, nodes...), with(tcp("192.0.2.1:81", nodes...), func(s *lb.Settings) { s.MaxConnections = 10 }))),
		"share-of-http":           share(one(tcp(at, nodes...), with(tcp("192.0.2.1:81", nodes...), inHTTP))),
		"http":                    one(with(tcp(at, nodes...), inHTTP), with(from(accepting(tcp(v6, nodes6...)), "2001:db8:9::/48"), inHTTP), with(tcp("192.0.2.1:81"), inHTTP)),
		"tls":                     one(terminating(t, tcp(at, nodes...)), terminating(t, tcp(v6, nodes6...)), tcp("192.0.2.1:81", nodes...), terminating(t, tcp("192.0.2.1:82"))),
		"tls-with-all": one(terminating(t, with(from(accepting(tcp(at, nodes...)), "198.51.100.0/24"), func(s *lb.Settings) {
			s.SendProxy, s.MaxConnections, s.MaxConnectionsPerClient = lb.ProxyV1, 1000, 10
		}))),
		"http-with-all": one(terminating(t, with(from(sticky(weighed(accepting(tcp(at, nodes...)))), "198.51.100.0/24"), func(s *lb.Settings) {
			s.Mode, s.MaxConnections, s.MaxConnectionsPerNode, s.MaxConnectionsPerClient, s.Retries = lb.ModeHTTP, 1000, 300, 10, 0
		}))),
		"http-beside-tcp": one(with(tcp(at, nodes...), inHTTP), tcp("192.0.2.1:81", nodes...)),
		"http-redirect":   one(with(from(tcp(at, nodes...), "198.51.100.0/24"), func(s *lb.Settings) { s.Mode, s.RedirectToHTTPS = lb.ModeHTTP, true })),
		"http-limits":     set(func(s *lb.Settings) { s.Mode, s.MaxBodyBytes, s.MaxHeaderBytes = lb.ModeHTTP, 1<<20, 4<<10 }),
		"http-grpc":       one(with(tcp(at, nodes...), inH2C), terminating(t, with(tcp(v6, nodes6...), inH2C)), with(tcp("192.0.2.1:81"), inH2C)),
		"tls-http":        one(terminating(t, with(tcp(at, nodes...), inHTTP))),
		"tls-shared": config(
			service(t, "a", terminating(t, tcp(at, nodes...))),
			service(t, "b", terminating(t, tcp("192.0.2.1:81", nodes...)))),
		"limits": one(with(tcp(at, nodes...), func(s *lb.Settings) {
			s.MaxConnections, s.MaxConnectionsPerNode, s.MaxConnectionsPerClient = 1000, 300, 10
		})),
		"limits-of-queues": one(with(tcp(at, nodes...), queueing), with(tcp("192.0.2.1:81", nodes...), func(s *lb.Settings) {
			s.Mode = lb.ModeHTTP
			queueing(s)
		})),
		"slow-start": set(func(s *lb.Settings) { s.SlowStart = 90 * time.Second }),
		"limits-of-rates": one(with(tcp(at, nodes...), func(s *lb.Settings) { s.MaxRatePerClient = 10 }),
			with(tcp("192.0.2.1:81", nodes...), func(s *lb.Settings) { s.Mode, s.MaxRatePerClient = lb.ModeHTTP, 1 }),
			with(tcp("192.0.2.1:82", nodes...), func(s *lb.Settings) {
				s.Mode, s.MaxConnectionsPerClient, s.MaxRatePerClient = lb.ModeHTTP, 5, lb.MostRate
			})),
		"limits-of-udp":        one(with(udp(at, nodes...), func(s *lb.Settings) { s.MaxConnectionsPerNode = 300 })),
		"limits-without-nodes": one(with(tcp(at), func(s *lb.Settings) { s.MaxConnections, s.MaxConnectionsPerClient = 1000, 10 })),
		"timeouts": set(func(s *lb.Settings) {
			s.ConnectTimeout, s.IdleTimeout, s.HealthCheck.Interval = 1500*time.Microsecond, 24*time.Hour, 1500*time.Millisecond
		}),
		"no-retries": set(func(s *lb.Settings) { s.Retries = 0 }),
		"source-addresses": one(with(tcp(at, nodes...), sourced), with(tcp(v6, nodes6...), sourced),
			with(tcp("192.0.2.1:81", nodes...), func(s *lb.Settings) { s.Mode = lb.ModeHTTP; sourced(s) }),
			with(tcp("192.0.2.1:82", nodes...), func(s *lb.Settings) { inH2C(s); sourced(s) })),
		"source-addresses-udp": one(with(udp(at, nodes...), sourced)),
		"no-access-log":        one(with(tcp(at, nodes...), unlogged), with(tcp("192.0.2.1:81", nodes...), func(s *lb.Settings) { s.Mode = lb.ModeHTTP; unlogged(s) })),
		"timeouts-apart": one(with(tcp(at, nodes...), timeoutsApart),
			with(tcp("192.0.2.1:81", nodes...), func(s *lb.Settings) { s.Mode = lb.ModeHTTP; timeoutsApart(s) })),
		"no-health-check": set(func(s *lb.Settings) { s.HealthCheck = lb.HealthCheck{Type: lb.CheckNone} }),
		"longest-names": config(&engine.Service{
			ID:        serviceID(t, strings.Repeat("n", 63), strings.Repeat("s", 63), strings.Repeat("u", 63)),
			Frontends: []engine.Frontend{with(tcp("[2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff]:65535", nodes6...), func(s *lb.Settings) { s.MaxConnectionsPerClient = 1 })},
		}),
		"many-services": config(
			service(t, "a", tcp(at, nodes...)),
			service(t, "b", tcp("192.0.2.1:81", nodes...)),
			&engine.Service{ID: serviceID(t, "default", "b", otherUID), Frontends: []engine.Frontend{tcp("192.0.2.2:80", nodes...)}},
			&engine.Service{ID: serviceID(t, "other", "a", otherUID), Frontends: []engine.Frontend{udp("192.0.2.2:80", nodes...)}}),
	}
}

func timeoutsApart(s *lb.Settings) {
	s.ClientTimeout, s.ServerTimeout, s.KeepAlive = time.Hour, 90*time.Second, 90*time.Second
}

func sourced(s *lb.Settings) {
	s.Source = lb.Source{IPv4: netip.MustParsePrefix("192.0.2.10/32"), IPv6: netip.MustParsePrefix("2001:db8::10/128")}
}

func unlogged(s *lb.Settings) { s.NoAccessLog = true }

func queueing(s *lb.Settings) {
	s.MaxConnectionsPerNode, s.MaxQueue, s.QueueTimeout, s.AbortOnClose = 10, 70, time.Minute, true
}

func asksHost(s *lb.Settings) {
	s.HealthCheck.Type, s.HealthCheck.Path = lb.CheckHTTP, "/ready"
	s.HealthCheck.Host, s.HealthCheck.Status = "web.example", lb.Status{From: 204, To: 204}
}

func speaks(s *lb.Settings) {
	s.HealthCheck.Type, s.HealthCheck.Send, s.HealthCheck.Expect = lb.CheckTCP, "50494e470d0a", "2b504f4e47"
}

// directly makes a Frontend whose packets reach the nodes as they came.
func directly(f engine.Frontend) engine.Frontend {
	f.Direct, f.NodePort = true, 30080
	return f
}

// local makes a Frontend that is for nodes with endpoints only.
func local(f engine.Frontend) engine.Frontend {
	f.HealthCheckNodePort = 32000
	return f
}

// weighed makes a Frontend whose nodes have 1, 2, 3 and so on endpoints.
func weighed(f engine.Frontend) engine.Frontend {
	f = local(f)
	for i := range f.Backends {
		f.Backends[i].Weight = uint16(i + 1)
	}
	return f
}

// waits makes a Frontend whose first node waits for the others to fail.
func waits(f engine.Frontend) engine.Frontend {
	f.Backends[0].Backup, f.Backends[0].Weight = true, 3
	return f
}

// draining makes a Frontend whose first node keeps its connections, and no more.
func draining(f engine.Frontend) engine.Frontend {
	f.Backends[0].Draining = true
	return f
}

func TestGolden(t *testing.T) {
	onAllEngines(t, func(t onEngine) {
		for name, cfg := range goldenConfigs(t) {
			if !carried(t.engine, cfg) {
				continue
			}
			t.Run(name, func(t onEngine) {
				set, dir := mustRender(t, cfg), filepath.Join("testdata", filepath.FromSlash(t.Name()))
				if *update {
					if err := os.RemoveAll(dir); err != nil {
						t.Fatal(err)
					}
					for path, text := range contents(set) {
						writeFile(t, filepath.Join(dir, filepath.FromSlash(path)), []byte(text))
					}
				}
				if d := cmp.Diff(readTree(t, dir), contents(set)); d != "" {
					t.Errorf("not as in %s (-want +got):\n%s", dir, d)
				}
				_, conf := programs[t.engine].install(t, set)
				if err := check(t, conf); err != nil {
					t.Error(err)
				}
			})
		}
	})
}

// carried reports whether an engine can do all of a Config.
func carried(e *engine.Engine, cfg *configuration) bool {
	for _, s := range cfg.Services {
		for _, f := range s.Frontends {
			set := f.Settings
			if set.Certificate != "" && e.Unsupported("tls.secretRef", f.Listener.Protocol) != "" {
				return false
			}
			if set.AcceptProxy && e.Unsupported("proxyProtocol.accept", f.Listener.Protocol) != "" {
				return false
			}
			for _, field := range []string{"algorithm=" + string(set.Algorithm), "mode=" + string(set.Mode), "proxyProtocol.send=" + string(set.SendProxy), "healthCheck.type=" + string(set.HealthCheck.Type)} {
				if e.Unsupported(engine.Field(field), lb.TCP) != "" {
					return false
				}
			}
			if e.NotInMode(engine.Field("proxyProtocol.send="+string(set.SendProxy)), set.Mode) != "" {
				return false
			}
			if !e.Carries(f.Listener.Protocol) || f.Direct && !e.Direct {
				return false
			}
			if e.KeepsConnections && slices.ContainsFunc(f.Backends, func(b engine.Backend) bool { return b.Draining }) {
				return false
			}
			if e.Backups.Missing != "" && slices.ContainsFunc(f.Backends, func(b engine.Backend) bool { return b.Backup }) {
				return false
			}
		}
	}
	return true
}

// Every folder in testdata belongs to a case that still exists.
func TestGoldenHasNoLeftovers(t *testing.T) {
	configs := goldenConfigs(t)
	for _, e := range engines.Table.Engines {
		entries, err := os.ReadDir(filepath.Join("testdata", "TestGolden", e.Name))
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range entries {
			if cfg := configs[entry.Name()]; cfg == nil || !carried(e, cfg) {
				t.Errorf("no case for %s/%s", e, entry.Name())
			}
		}
	}
}

// share lets each Service have so many connections.
func share(c *configuration) *configuration {
	for _, s := range c.Services {
		s.MaxConnections = 2048
	}
	return c
}

// The checks can fail: without this, TestGolden would prove nothing.
func TestEnginesRefuseABadFile(t *testing.T) {
	onAllEngines(t, func(t onEngine) {
		good := mustRender(t, config(service(t, "web", tcp("192.0.2.1:80", "10.0.0.1:30080"))))
		data, err := os.ReadFile(filepath.Join("testdata", "bad."+t.engine.Name))
		if err != nil {
			t.Fatal(err)
		}
		bad, err := fileset.NewFragment("services/default.bad.conf", data, nil)
		if err != nil {
			t.Fatal(err)
		}
		files := []fileset.File{bad}
		for f := range good.All() {
			files = append(files, f)
		}
		set, err := fileset.New(files...)
		if err != nil {
			t.Fatal(err)
		}
		_, conf := programs[t.engine].install(t, set)
		if err := check(t, conf); err == nil || !strings.Contains(err.Error(), "lissen") {
			t.Errorf("want an error that names the mistake, got %v", err)
		}
	})
}

// 1.5 kB per server is enough for nginx, at every size.
func TestNginxHasRoomForEveryServer(t *testing.T) {
	for _, count := range []int{1, 42, 43, 100, 1000, 5000} {
		nodes := make([]string, count)
		for i := range nodes {
			nodes[i] = address6(i)
		}
		for _, f := range []engine.Frontend{tcp("[2001:db8::1]:80", nodes...), udp("[2001:db8::1]:80", nodes...)} {
			f.Settings.MaxConnectionsPerNode = 1000
			_, conf := install(t, mustRender(t, config(service(t, "web", f))))
			if err := check(t, conf); err != nil {
				t.Errorf("%d servers: %v", count, err)
			}
		}
	}
}

// contents of a set, but for keys.
func contents(set *fileset.Set) map[string]string {
	all := map[string]string{}
	for f := range set.All() {
		if all[f.Path] = string(f.Data); f.Private {
			all[f.Path] = "private\n"
		}
	}
	return all
}

func readTree(t testing.TB, dir string) map[string]string {
	t.Helper()
	all, root := map[string]string{}, os.DirFS(dir)
	err := fs.WalkDir(root, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := fs.ReadFile(root, path)
		all[path] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
