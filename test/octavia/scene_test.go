package octavia

import (
	"context"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/external-lb/external-lb/test/cluster"
	"github.com/external-lb/external-lb/test/lab"
)

// The addresses of load balancers. Octavia gives the upper half by itself.
const addresses, wanted = "203.0.113.0/25", "203.0.113.2"

// scene is a cluster with Octavia beside it, in a box called cloud.
type scene struct {
	*lab.Lab
	cloud     *Octavia
	dir       string
	nodePorts atomic.Uint32 // that tests were given
}

var env scene

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(func() int {
		code, err := withScene(m)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return code
	}())
}

func withScene(m *testing.M) (code int, err error) {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "external-lb-octavia-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	binary, err := lab.Build(ctx, dir)
	if err != nil {
		return 1, err
	}
	l, err := lab.Start(ctx, lab.Options{
		Cluster: cluster.Options{Dir: filepath.Join(dir, "cluster"), Nodes: 2, Hosts: 1, Engine: "lvs", Binary: binary, Pools: []string{addresses}},
		Root:    "../..", Bare: true, Log: os.Stderr,
	})
	if err != nil {
		return 1, err
	}
	defer func() {
		if e := l.Stop(); err == nil {
			err = e
		}
	}()
	if err := l.AddClient(ctx, "cloud"); err != nil {
		return 1, err
	}
	cloud, err := Start(ctx, l.Cluster, "cloud", l.Hosts()[0], []string{addresses}, os.Stderr)
	if err != nil {
		return 1, err
	}
	env.Lab, env.cloud, env.dir = l, cloud, dir
	return m.Run(), nil
}

// address of the box.
func (s *scene) address() netip.Addr { return s.Addrs("cloud")[0] }

// startProvider in the box, beside Octavia.
func (s *scene) startProvider(t *testing.T, at Place) *Provider {
	t.Helper()
	p, err := s.cloud.StartProvider(t.Context(), s.binary(), t.TempDir(), at, netip.PrefixFrom(s.address(), 20).Masked().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if p.Stop(); t.Failed() {
			t.Logf("the provider said: %s", p.Said())
		}
	})
	return p
}

func (s *scene) binary() string { return filepath.Join(s.dir, "external-lb") }
